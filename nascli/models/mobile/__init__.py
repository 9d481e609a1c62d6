"""The family of mobile networks: chains of blocks of equal layers, as MobileNetV2 and MnasNet."""
