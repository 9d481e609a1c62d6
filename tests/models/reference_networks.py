"""A peer's network with random weights and statistics: its weights file, some images and its logits. Run as a program.

    python reference_networks.py timm nasnetalarge 75 OUT

writes OUT.pth (or OUT.h5 for Keras) and OUT.npz with `images` (N, 3, H, W) and `logits`.
"""

import sys

import numpy as np


def torch_peer(tool: str, name: str, size: int, out: str) -> None:
    import torch

    torch.manual_seed(0)
    if tool == "timm":
        import timm

        network = timm.create_model(name)
    else:
        import pretrainedmodels

        network = getattr(pretrainedmodels, name.partition(":")[0])(
            num_classes=int(name.partition(":")[2] or 1000), pretrained=None
        )
        if hasattr(network, "avg_pool"):  # its pool is made for its native size
            network.avg_pool = torch.nn.AdaptiveAvgPool2d(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        logits = network.eval()(images)
    torch.save(network.state_dict(), f"{out}.pth")
    np.savez(f"{out}.npz", images=images.numpy(), logits=logits.numpy())


def keras_peer(name: str, size: int, out: str) -> None:
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    random = np.random.default_rng(0)
    network = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    network.layers[-1].activation = keras.activations.linear
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape
            spread, shift = random.uniform(0.5, 1.5, (2, *width)), random.normal(0, 0.1, (2, *width))
            layer.set_weights([spread[0], shift[0], shift[1], spread[1]])
    images = random.standard_normal((3, size, size, 3)).astype(np.float32)
    logits = np.asarray(network(images, training=False))
    network.save(f"{out}.h5")
    np.savez(f"{out}.npz", images=images.transpose(0, 3, 1, 2), logits=logits)


if __name__ == "__main__":
    _, tool, name, size, out = sys.argv
    if tool == "keras":
        keras_peer(name, int(size), out)
    else:
        torch_peer(tool, name, int(size), out)
