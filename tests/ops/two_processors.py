"""Run by `test_compiler.py` in a process of its own: a processor split in two, and the layer on each half."""

import json

import tensorflow as tf

if __name__ == "__main__":
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)

    from bn_keras import BatchNorm
    from bn_keras.ops.compiler import accelerated

    devices, seen = [], []
    for name in ("CPU:0", "CPU:1"):
        with tf.device(name):
            y = BatchNorm()(tf.ones([4, 3]), training=True)
            seen.append(accelerated())
        devices.append(y.device.rpartition("device:")[2])
    print("RESULT " + json.dumps({"accelerated": any(seen), "devices": devices}))
