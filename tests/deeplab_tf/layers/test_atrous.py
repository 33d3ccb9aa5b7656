import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import atrous, forward_only
from deeplab_tf.layers.atrous import AtrousConv2D, atrous_conv2d, deinterlace, interlace
from deeplab_tf.layers.conv_batch_norm import DepthwiseConvBatchNorm
from tests.references import slow_atrous_conv2d

KERNELS = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (7, 7), (3, 4)]
RATES = [1, 2, 3, 4, 6, 12]
EPSILON = {"float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.9e-3}


def normal(*shape, seed=0, dtype="float32"):
    values = np.random.default_rng(seed).standard_normal(shape)
    return tf.cast(tf.constant(values, tf.float32), dtype)


def assert_equals_reference(y, x, kernel, rate):
    """Compares with the slow version on the same (rounded) numbers.

    Products are added in float32 at least within a tap or a convolution and rounded to the dtype once a tap at
    most, so the error is at most half an epsilon of the sum of absolute values per tap, and float32's own order
    of summation: 64 epsilons cover it.
    """
    x, kernel = tf.cast(x, tf.float32).numpy(), tf.cast(kernel, tf.float32).numpy()
    magnitude = slow_atrous_conv2d(np.abs(x), np.abs(kernel), rate)
    taps = kernel.shape[0] * kernel.shape[1]
    bound = (0.5 * (taps + 1) * EPSILON[y.dtype.name] + 64 * EPSILON["float32"]) * magnitude
    difference = np.abs(tf.cast(y, tf.float32).numpy() - slow_atrous_conv2d(x, kernel, rate))
    assert np.all(difference <= bound), difference.max()


def convolve_unknown_size(x, kernel, rate):
    """atrous_conv2d in a graph that knows neither batch nor height nor width."""
    function = tf.function(lambda x: atrous_conv2d(x, kernel, rate))
    spec = tf.TensorSpec([None, None, None, x.shape[-1]], x.dtype)
    return function.get_concrete_function(spec)(x)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_equals_a_convolution_with_holes_in_the_kernel(kernel_size, rate):
    kernel = normal(*kernel_size, 3, 2, seed=1)
    for height, width in ((2 * rate + 1, 2 * rate + 4), (2 * rate + 2, 2 * rate + 3), (3 * rate + 1, 4 * rate + 1)):
        x = normal(2, height, width, 3)
        assert_equals_reference(atrous_conv2d(x, kernel, rate), x, kernel, rate)
        assert_equals_reference(atrous_conv2d(x, kernel, rate, "dilated"), x, kernel, rate)
        assert_equals_reference(atrous_conv2d(x, kernel, rate, "auto"), x, kernel, rate)
    # A graph without sizes takes the form that suits a usual map.
    assert_equals_reference(convolve_unknown_size(x, kernel, rate), x, kernel, rate)


@pytest.mark.parametrize("size", [(9, 9), (10, 11), (25, 14)], ids=str)
@pytest.mark.parametrize("rate", [2, 3, 4])
@pytest.mark.parametrize("kernel_size", [(3, 3), (4, 4), (2, 2), (3, 4)], ids=str)
def test_maps_with_large_phases_are_deinterlaced_exactly(kernel_size, rate, size):
    x, kernel = normal(1, 3 * size[0], 2 * size[1], 2), normal(*kernel_size, 2, 3, seed=1)
    assert_equals_reference(atrous_conv2d(x, kernel, rate), x, kernel, rate)


@pytest.mark.parametrize("filters", [1, 8], ids=["project first", "tap by tap"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (5, 12), (13, 13)], ids=str)
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_maps_smaller_than_the_rate_are_exact_too(kernel_size, size, filters):
    for rate in (6, 12, 24):
        x, kernel = normal(2, *size, 8), normal(*kernel_size, 8, filters, seed=1)
        y = atrous_conv2d(x, kernel, rate)
        assert y.shape == (2, *size, filters)
        assert_equals_reference(y, x, kernel, rate)
    if filters == 1:
        assert_equals_reference(convolve_unknown_size(x, kernel, 24), x, kernel, 24)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("kernel_size", "rate", "size", "filters"),
    [(3, 2, (13, 14), 4), (4, 4, (33, 30), 4), (3, 12, (25, 26), 4), (3, 12, (25, 26), 1)],
    ids=["odd", "even", "small phases", "small phases, projected first"],
)
def test_every_float_dtype_is_kept_and_right(kernel_size, rate, size, filters, dtype):
    x = normal(2, *size, 4, dtype=dtype)
    kernel = normal(kernel_size, kernel_size, 4, filters, seed=1, dtype=dtype)
    y = atrous_conv2d(x, kernel, rate)
    assert y.dtype == dtype
    assert_equals_reference(y, x, kernel, rate)


@pytest.mark.parametrize(
    ("kernel_size", "rate", "filters"),
    [(3, 2, 5), (3, 4, 5), (3, 12, 5), (3, 12, 1), (4, 4, 5), (4, 8, 5), (2, 3, 5)],
)
@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
def test_gradients_equal_those_of_the_dilated_convolution(kernel_size, rate, filters, known):
    x, kernel = normal(2, 25, 26, 4), normal(kernel_size, kernel_size, 4, filters, seed=1)
    towards = normal(2, 25, 26, filters, seed=2)
    gradients = {}
    for implementation in ("deinterlace", "dilated"):
        spec = tf.TensorSpec(x.shape if known else [None, None, None, 4], tf.float32)

        @tf.function(input_signature=[spec, tf.TensorSpec(kernel.shape, tf.float32)])
        def gradient(x, kernel, implementation=implementation):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                loss = tf.reduce_sum(atrous_conv2d(x, kernel, rate, implementation) * towards)
            return tape.gradient(loss, [x, kernel])

        gradients[implementation] = gradient(x, kernel)
    for ours, native in zip(gradients["deinterlace"], gradients["dilated"], strict=True):
        # Sums of up to 2*25*26 products in another order.
        np.testing.assert_allclose(ours, native, rtol=0, atol=1e-5 * np.abs(native).max())


@pytest.mark.parametrize(
    ("dtype", "batch", "filters", "rate"),
    [("float32", 1, 1, 24), ("float32", 4, 6, 2), ("bfloat16", 1, 6, 2), ("bfloat16", 1, 6, 8)],
)
def test_auto_convolves_by_dilation_where_that_is_faster_and_never_uses_its_gradient(dtype, batch, filters, rate):
    x, kernel = normal(batch, 41, 41, 8, dtype=dtype), normal(3, 3, 8, filters, seed=1, dtype=dtype)
    towards = normal(batch, 41, 41, filters, seed=2, dtype=dtype)

    def run(implementation):
        @tf.function
        def function(x, kernel):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = atrous_conv2d(x, kernel, rate, implementation)
            return y, *tape.gradient(y, [x, kernel], towards)

        operations = function.get_concrete_function(x, kernel).graph.get_operations()
        dilated = [op.type for op in operations if "dilations" in op.node_def.attr and rate in op.get_attr("dilations")]
        return dilated, function(x, kernel)

    dilated, results = run("auto")
    assert dilated == ["Conv2D"]
    none, expected = run("deinterlace")
    assert not none
    for one, other in zip(results, expected, strict=True):
        one, other = (tf.cast(t, tf.float32).numpy() for t in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=4 * EPSILON[dtype] * np.abs(other).max())


@pytest.mark.parametrize(("dtype", "dilated"), [("float32", False), ("bfloat16", True)])
def test_a_graph_that_only_runs_forward_takes_the_faster_form_whatever_is_chosen(dtype, dilated):
    x, kernel = normal(1, 41, 41, 8, dtype=dtype), normal(3, 3, 8, 6, seed=1, dtype=dtype)
    function = tf.function(lambda x: atrous_conv2d(x, kernel, 8, "deinterlace"))
    with forward_only.wanted():
        concrete = function.get_concrete_function(x)
    rates = [op.get_attr("dilations")[1] for op in concrete.graph.get_operations() if op.type == "Conv2D"]
    assert (8 in rates) == dilated
    assert_equals_reference(concrete(x), x, kernel, 8)


@pytest.mark.parametrize("size", [(9, 11), (None, None)])
def test_the_phases_of_a_depthwise_convolution_are_finished_before_they_are_interlaced(size):
    x, layer = normal(1, 9, 11, 4), DepthwiseConvBatchNorm(3, rate=2, epsilon=1e-3, activation="relu6")
    layer.build(x.shape)
    for number, weight in enumerate((layer.gamma, layer.beta, layer.moving_mean)):
        weight.assign(4 * normal(4, seed=number))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None, *size, 4])).graph
    after = [op.type for op in graph.get_operations() if op.type in ("BatchToSpaceND", "BiasAdd", "Relu6")]
    assert after == ["BiasAdd", "Relu6", "BatchToSpaceND"]
    scale = np.asarray(layer.gamma) / np.sqrt(np.float32(1 + 1e-3))
    plain = tf.nn.depthwise_conv2d(x, layer.kernel, [1] * 4, "SAME", dilations=[2, 2])
    expected = np.clip(plain * scale + np.asarray(layer.beta) - np.asarray(layer.moving_mean) * scale, 0, 6)
    assert (expected == 0).any() and (expected == 6).any()
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_auto_deinterlaces_large_kernels_in_bfloat16_too():
    x, kernel = normal(1, 41, 41, 4, dtype="bfloat16"), normal(7, 7, 4, 6, seed=1, dtype="bfloat16")
    graph = tf.function(lambda: atrous_conv2d(x, kernel, 4, "auto")).get_concrete_function().graph
    assert not any(4 in op.get_attr("dilations") for op in graph.get_operations() if op.type == "Conv2D")


@pytest.mark.parametrize(("dtype", "dilated"), [("float32", 0), ("bfloat16", 3)])
def test_auto_dilates_forward_and_backward_in_bfloat16_where_there_is_a_gpu(monkeypatch, dtype, dilated):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    x, kernel = normal(1, 41, 41, 8, dtype=dtype), normal(3, 3, 8, 6, seed=1, dtype=dtype)

    @tf.function
    def gradients(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = atrous_conv2d(x, kernel, 2, "auto")
        return y, *tape.gradient(y, [x, kernel])

    operations = gradients.get_concrete_function(x, kernel).graph.get_operations()
    rates = [list(op.get_attr("dilations")) for op in operations if "dilations" in op.node_def.attr]
    assert rates.count([1, 2, 2, 1]) == dilated


def test_the_sum_of_taps_holds_few_maps_and_pads_no_gradient_to_the_whole_kernel():
    x, kernel = normal(1, 41, 41, 4), normal(3, 3, 4, 8, seed=1)

    @tf.function
    def gradient(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            y = atrous_conv2d(x, kernel, 12)
        return tape.gradient(y, kernel)

    types = [op.type for op in gradient.get_concrete_function(x, kernel).graph.get_operations()]
    assert "StridedSliceGrad" not in types
    assert types.count("AddN") == 3  # a line of taps at a time


@pytest.mark.parametrize("rate", [2, 3, 12], ids=["large phases", "medium phases", "small phases"])
def test_half_precision_gradients_exist_on_the_cpu_and_are_near_float32(rate):
    gradients = {}
    for dtype in ("float32", "float16", "bfloat16"):
        x, kernel = normal(1, 25, 26, 4, dtype=dtype), normal(3, 3, 4, 4, seed=1, dtype=dtype)
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_mean(tf.cast(atrous_conv2d(x, kernel, rate), tf.float32) ** 2)
        gradients[dtype] = tape.gradient(loss, [x, kernel])
    # float16 has 11 bits, bfloat16 8; the sums run over hundreds of terms: this is ample and still tells.
    for dtype, bound in (("float16", 0.01), ("bfloat16", 0.04)):
        for half, full in zip(gradients[dtype], gradients["float32"], strict=True):
            assert half.dtype == dtype
            np.testing.assert_allclose(tf.cast(half, tf.float32), full, rtol=0, atol=bound * np.abs(full).max())


@pytest.mark.parametrize("rate", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (6, 6), (7, 11), (3, 10)], ids=str)
def test_interlace_undoes_deinterlace(size, rate):
    x = normal(2, *size, 3)
    np.testing.assert_array_equal(interlace(deinterlace(x, rate), rate, *size), x)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def there_and_back(x):
        return interlace(deinterlace(x, rate), rate, tf.shape(x)[1], tf.shape(x)[2])

    np.testing.assert_array_equal(there_and_back(x), x)


def test_a_margin_moves_the_map_before_it_is_deinterlaced():
    x = normal(2, 7, 9, 3)
    moved = np.pad(x, [[0, 0], [2, 0], [1, 0], [0, 0]])
    np.testing.assert_array_equal(deinterlace(x, 3, margin=(2, 1)), deinterlace(moved, 3))


@pytest.mark.parametrize("kernel_size", [3, 4])
def test_atrous_convolution_is_what_deinterlace_and_interlace_do(monkeypatch, kernel_size):
    called = []
    for function in (deinterlace, interlace):

        def recorded(*args, function=function, **kwargs):
            called.append(function.__name__)
            return function(*args, **kwargs)

        monkeypatch.setattr(atrous, function.__name__, recorded)
    atrous_conv2d(normal(1, 33, 33, 8), normal(kernel_size, kernel_size, 8, 16, seed=1), 2)
    assert called == ["deinterlace", "interlace"]


def test_deinterlaced_maps_are_the_shifted_subsampled_ones_in_the_documented_order():
    x, rate = normal(2, 7, 11, 3).numpy(), 3
    maps = deinterlace(tf.constant(x), rate).numpy()
    assert maps.shape == (rate * rate * 2, 3, 4, 3)
    for i in range(rate):
        for j in range(rate):
            for b in range(2):
                expected = np.zeros((3, 4, 3), np.float32)
                phase = x[b, i::rate, j::rate]
                expected[: phase.shape[0], : phase.shape[1]] = phase
                np.testing.assert_array_equal(maps[(i * rate + j) * 2 + b], expected)


def test_deinterlacing_keeps_integers():
    x = tf.reshape(tf.range(35), [1, 5, 7, 1])
    assert deinterlace(x, 2).dtype == tf.int32
    np.testing.assert_array_equal(interlace(deinterlace(x, 2), 2, 5, 7), x)


@pytest.mark.parametrize("implementation", ["deinterlace", "dilated"])
@pytest.mark.parametrize(("kernel_size", "rate"), [(3, 1), (3, 2), (3, 12), (5, 3), (4, 4), (4, 8), (7, 4), (2, 3)])
def test_an_impulse_spreads_over_the_effective_kernel_size(kernel_size, rate, implementation):
    layer = AtrousConv2D(1, kernel_size, rate, implementation, kernel_initializer="ones")
    span = kernel_size + (kernel_size - 1) * (rate - 1)
    assert layer.effective_kernel_size == (span, span)
    side = 2 * span + 1
    impulse = np.zeros((1, side, side, 1), np.float32)
    impulse[0, span, span, 0] = 1
    response = layer(impulse).numpy()[0, :, :, 0]
    rows, columns = np.nonzero(response.any(1))[0], np.nonzero(response.any(0))[0]
    assert rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1 == span
    assert (np.diff(rows) == rate).all() and len(rows) == kernel_size
    assert response.sum() == kernel_size**2


@pytest.mark.parametrize("implementation", ["deinterlace", "dilated"])
def test_the_taps_of_a_4x4_kernel_at_rate_4_lie_at_minus_6_minus_2_2_and_6(implementation):
    impulse = np.zeros((1, 41, 41, 1), np.float32)
    impulse[0, 20, 20, 0] = 1
    kernel = np.arange(1, 17, dtype=np.float32).reshape(4, 4, 1, 1)
    response = atrous_conv2d(impulse, kernel, 4, implementation).numpy()[0, :, :, 0]
    for i, dy in enumerate((-6, -2, 2, 6)):
        for j, dx in enumerate((-6, -2, 2, 6)):
            # The output at p sees the input at p + offset, so the impulse shows up at the opposite offset.
            assert response[20 - dy, 20 - dx] == kernel[i, j, 0, 0]
    assert np.count_nonzero(response) == 16


def test_both_implementations_of_the_layer_agree_and_add_bias_and_activation():
    x = normal(1, 15, 18, 4)
    layers = {
        name: AtrousConv2D(6, 3, 4, name, activation="relu", bias_initializer=keras.initializers.Constant(0.3))
        for name in ("deinterlace", "dilated")
    }
    for layer in layers.values():
        layer.build(x.shape)
    layers["dilated"].set_weights(layers["deinterlace"].get_weights())
    kernel, bias = layers["deinterlace"].get_weights()
    expected = np.maximum(slow_atrous_conv2d(x.numpy(), kernel, 4) + bias, 0)
    assert (bias == np.float32(0.3)).all() and (expected == 0).any()
    for layer in layers.values():
        np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_the_layer_survives_its_config():
    options = {"use_bias": False, "activation": "relu", "name": "fc6", "kernel_initializer": "ones"}
    layer = AtrousConv2D(5, (3, 4), 6, "dilated", **options)
    config = layer.get_config()
    copy = AtrousConv2D.from_config(config)
    assert copy.get_config() == config
    assert (copy.rate, copy.implementation, copy.kernel_size, copy.use_bias) == (6, "dilated", (3, 4), False)
    x = normal(1, 9, 9, 2)
    np.testing.assert_array_equal(copy(x), layer(x))


@pytest.mark.parametrize("implementation", ["deinterlace", "dilated"])
def test_a_functional_model_without_a_fixed_size_is_saved_and_loaded(tmp_path, implementation):
    inputs = keras.Input((None, None, 3))
    outputs = AtrousConv2D(4, 3, rate=2, implementation=implementation, activation="relu")(inputs)
    model = keras.Model(inputs, AtrousConv2D(2, 4, rate=3, implementation=implementation)(outputs))
    assert model.output_shape == (None, None, None, 2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for size in ((1, 1), (12, 17), (31, 30)):
        x = normal(2, *size, 3)
        assert model(x).shape == (2, *size, 2)
        np.testing.assert_array_equal(loaded(x), model(x))
        # predict compiles the model for unknown sizes: other paths, the same numbers up to rounding.
        np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-5)


def test_a_mixed_precision_layer_computes_in_half_precision_with_float32_variables():
    layer = AtrousConv2D(4, 3, 2, dtype="mixed_bfloat16")
    y = layer(normal(1, 9, 9, 3))
    assert y.dtype == tf.bfloat16
    assert {v.dtype for v in layer.variables} == {"float32"}


def test_wrong_arguments_are_refused():
    x, kernel = normal(1, 9, 9, 2), normal(3, 3, 2, 2)
    for rate in (0, -2):
        for call in (
            lambda rate=rate: atrous_conv2d(x, kernel, rate),
            lambda rate=rate: deinterlace(x, rate),
            lambda rate=rate: interlace(x, rate, 9, 9),
            lambda rate=rate: AtrousConv2D(2, 3, rate),
        ):
            with pytest.raises(ValueError, match=f"rate must be >= 1, got {rate}"):
                call()
    for call in (lambda: atrous_conv2d(x[0], kernel, 2), lambda: deinterlace(x[0], 2)):
        with pytest.raises(ValueError, match=r"\[B, H, W, C\], got shape \(9, 9, 2\)"):
            call()
    with pytest.raises(ValueError, match=r"implementation must be one of .*deinterlace.*'fft'"):
        atrous_conv2d(x, kernel, 2, "fft")
    with pytest.raises(ValueError, match=r"implementation must be one of .*deinterlace.*'fft'"):
        AtrousConv2D(2, 3, implementation="fft")
    for fixed in ({"strides": 2}, {"padding": "valid"}, {"dilation_rate": 2}, {"data_format": "channels_first"}):
        with pytest.raises(ValueError, match=f"takes no {next(iter(fixed))}"):
            AtrousConv2D(2, 3, **fixed)


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_phases_are_no_larger_than_the_map_needs(kernel_size):
    """Also for an even kernel, whose padding is no whole number of cells of a phase."""
    x, kernel = tf.zeros([1, 65, 65, 2]), tf.zeros([kernel_size, kernel_size, 2, 3])
    compute = tf.function(lambda x: atrous_conv2d(x, kernel, 4), autograph=False)
    operations = compute.get_concrete_function(x).graph.get_operations()
    [convolution] = [operation for operation in operations if operation.type == "Conv2D"]
    assert convolution.inputs[0].shape == [16, 17, 17, 2]
