"""The family of mobile networks: chains of blocks of equal layers, as in MobileNetV2 and MnasNet."""
