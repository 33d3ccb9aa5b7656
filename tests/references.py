"""Slow, obviously correct versions of what the package computes fast."""

from __future__ import annotations

import numpy as np


def slow_confusion_matrix(labels, predictions, num_classes, ignore_label=255):
    """Counts pixel by pixel: int [K, K], rows are labels, columns are predictions."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for label, prediction in zip(np.ravel(labels), np.ravel(predictions), strict=True):
        if label != ignore_label:
            matrix[label, prediction] += 1
    return matrix


def slow_iou(labels, predictions, label, ignore_label=255):
    """Intersection over union of one class from two sets of pixel numbers; None where both are empty."""
    pairs = list(zip(np.ravel(labels), np.ravel(predictions), strict=True))
    counted = {i for i, (truth, _) in enumerate(pairs) if truth != ignore_label}
    in_labels = {i for i in counted if pairs[i][0] == label}
    in_predictions = {i for i in counted if pairs[i][1] == label}
    union = in_labels | in_predictions
    return len(in_labels & in_predictions) / len(union) if union else None


def brute_force_mean_field(
    image, probabilities, w1, sigma_alpha, sigma_beta, w2, sigma_gamma, iterations, normalization="symmetric"
):
    """Mean field of Eq. 2 and 3 with both kernels as N x N matrices, in float64.

    Kernels are normalised as k_ij / sqrt(n_i n_j), or "after" as k_ij / n_i, with n_i the row sum, j == i included.

    Args:
        image: uint8 [H, W, 3].
        probabilities: float [H, W, K], all > 0.
        w1: weight of the bilateral kernel.
        sigma_alpha: its reach in pixels.
        sigma_beta: its reach in colour levels.
        w2: weight of the smoothness kernel.
        sigma_gamma: its reach in pixels.
        iterations: updates.
        normalization: "symmetric" or "after".

    Returns:
        float64 [H, W, K].
    """
    height, width, num_classes = probabilities.shape
    rows, columns = np.divmod(np.arange(height * width), width)
    squared_distance = (rows[:, None] - rows) ** 2.0 + (columns[:, None] - columns) ** 2.0  # [N, N]
    colours = image.reshape(-1, 3).astype(np.float64)
    squared_contrast = ((colours[:, None] - colours) ** 2).sum(-1)  # [N, N]
    bilateral = np.exp(-squared_distance / (2 * sigma_alpha**2) - squared_contrast / (2 * sigma_beta**2))
    smooth = np.exp(-squared_distance / (2 * sigma_gamma**2))
    kernel = 0.0
    for weight, k in ((w1, bilateral), (w2, smooth)):
        n = k.sum(axis=1)
        kernel = kernel + weight * k / (np.sqrt(n[:, None] * n) if normalization == "symmetric" else n[:, None])
    log_unary = np.log(probabilities.reshape(-1, num_classes).astype(np.float64))  # [N, K]
    q = np.exp(log_unary)
    for _ in range(iterations):
        # Potts: disagreeing costs what agreeing does not earn, up to a constant per pixel.
        logits = log_unary + kernel @ q
        q = np.exp(logits - logits.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
    return q.reshape(height, width, num_classes)


def slow_lattice_filter(features, values):
    """Filters on a permutohedral lattice that is a dictionary from coordinates to values, in float64.

    The simplex around a point is found by its definition: walking from the nearest point of remainder 0 along the
    axes, in the order of how far the point lies ahead.

    Args:
        features: float [N, d], in standard deviations.
        values: float [N, C].

    Returns:
        float64 [N, C], not normalised, and the number of lattice points.
    """
    d = features.shape[1]
    step = d + 1
    # Helmert basis of the plane with sum 0, scaled so that splat, blur and slice have one standard deviation.
    basis = np.zeros((d, step))
    for i in range(1, step):
        basis[i - 1, :i] = 1
        basis[i - 1, i] = -i
        basis[i - 1] *= np.sqrt(2 / 3) * step / np.sqrt(i * (i + 1))
    places = []
    for position in np.asarray(features, np.float64) @ basis:
        corner = np.rint(position / step) * step
        ahead = position - corner
        # Bring a corner with another sum back to the plane, along the axes that were rounded farthest.
        excess = round(float(corner.sum()) / step)
        order = np.argsort(-ahead, kind="stable")
        for axis in order[len(order) - excess :] if excess > 0 else order[:-excess]:
            corner[axis] -= np.sign(excess) * step
        ahead = position - corner
        order = np.argsort(-ahead, kind="stable")
        ranked = ahead[order] / step
        weights = [1 - (ranked[0] - ranked[-1])] + [ranked[d - k] - ranked[d + 1 - k] for k in range(1, step)]
        place = []
        for k, weight in enumerate(weights):
            point = corner + k
            point[order[step - k :]] -= step  # the k axes that are farthest behind
            place.append((tuple(int(x) for x in point), weight))
        places.append(place)
    lattice = {}
    for place, value in zip(places, np.asarray(values, np.float64), strict=True):
        for point, weight in place:
            lattice[point] = lattice.get(point, 0) + weight * value
    for axis in range(step):
        blurred = {}
        for point, value in lattice.items():
            ahead, behind = np.array(point) + 1, np.array(point) - 1
            ahead[axis] -= step
            behind[axis] += step
            blurred[point] = value + 0.5 * (
                lattice.get(tuple(ahead.tolist()), 0) + lattice.get(tuple(behind.tolist()), 0)
            )
        lattice = blurred
    filtered = [sum(weight * lattice[point] for point, weight in place) for place in places]
    return np.array(filtered) / (1 + 2.0**-d), len(lattice)


def holes_kernel(kernel, rate):
    """Puts rate - 1 zeros between the taps: [kh, kw, C, F] -> [(kh - 1)*rate + 1, (kw - 1)*rate + 1, C, F]."""
    height, width = ((size - 1) * rate + 1 for size in kernel.shape[:2])
    holes = np.zeros((height, width, *kernel.shape[2:]), np.float64)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            holes[i * rate, j * rate] = kernel[i, j]
    return holes


def slow_atrous_conv2d(x, kernel, rate):
    """Convolves with the zeros in the kernel, in float64; of an odd padding the smaller half comes first.

    Args:
        x: [B, H, W, C].
        kernel: [kh, kw, C, F].
        rate: r >= 1.

    Returns:
        float64 [B, H, W, F].
    """
    holes = holes_kernel(np.asarray(kernel, np.float64), rate)
    top, left = ((size - 1) // 2 for size in holes.shape[:2])
    bottom, right = holes.shape[0] - 1 - top, holes.shape[1] - 1 - left
    padded = np.pad(np.asarray(x, np.float64), [(0, 0), (top, bottom), (left, right), (0, 0)])
    height, width = x.shape[1:3]
    out = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(holes.shape[0]):
        for j in range(holes.shape[1]):
            out += padded[:, i : i + height, j : j + width] @ holes[i, j]
    return out


def slow_caffe_pool(x, stride, average):
    """Pools over 3x3 windows with pad 1, as Caffe's loops do.

    Args:
        x: [B, H, W, C].
        stride: of the windows.
        average: mean, padding counted, instead of maximum.

    Returns:
        float64 [B, h, w, C].
    """
    kernel, pad = 3, 1
    sizes = []
    for size in x.shape[1:3]:
        pooled = int(np.ceil((size + 2 * pad - kernel) / stride)) + 1
        if (pooled - 1) * stride >= size + pad:  # the last window has to start inside the image or its padding
            pooled -= 1
        sizes.append(pooled)
    out = np.zeros((x.shape[0], *sizes, x.shape[3]))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            top, left = i * stride - pad, j * stride - pad
            bottom, right = min(top + kernel, x.shape[1] + pad), min(left + kernel, x.shape[2] + pad)
            window = np.asarray(x[:, max(top, 0) : bottom, max(left, 0) : right], np.float64)
            area = (bottom - top) * (right - left)
            out[:, i, j] = window.sum((1, 2)) / area if average else window.max((1, 2))
    return out


def slow_resize_bilinear(x, size, align_corners=True):
    """Interpolates with the corners of both grids aligned, or their edges: float64 [B, h, w, C] -> [B, *size, C]."""

    def position(i, before, after):
        if align_corners:
            return i * (before - 1) / (after - 1) if after > 1 else 0.0
        return min(max((i + 0.5) * before / after - 0.5, 0.0), before - 1.0)

    x = np.asarray(x, np.float64)
    out = np.zeros((x.shape[0], *size, x.shape[3]))
    for i in range(size[0]):
        for j in range(size[1]):
            y, z = position(i, x.shape[1], size[0]), position(j, x.shape[2], size[1])
            top, left = int(y), int(z)
            bottom, right = min(top + 1, x.shape[1] - 1), min(left + 1, x.shape[2] - 1)
            dy, dz = y - top, z - left
            above = (1 - dz) * x[:, top, left] + dz * x[:, top, right]
            below = (1 - dz) * x[:, bottom, left] + dz * x[:, bottom, right]
            out[:, i, j] = (1 - dy) * above + dy * below
    return out


def slow_cross_entropy(logits, labels, ignore_label=255):
    """Adds -log softmax pixel by pixel; returns (float64 sum, number of pixels that count)."""
    total, count = 0.0, 0
    for scores, label in zip(logits.reshape(-1, logits.shape[-1]).astype(np.float64), labels.ravel(), strict=True):
        if label != ignore_label:
            total += np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label]
            count += 1
    return total, count


def slow_boundary_distance(labels, ignore_label, border):
    """Looks at every pair of pixels: int [H, W], Chebyshev distance to void, or 1 more than to a label change."""
    height, width = labels.shape
    everywhere = [(i, j) for i in range(height) for j in range(width)]

    def chebyshev(p, q):
        return max(abs(p[0] - q[0]), abs(p[1] - q[1]))

    if border == "void":
        boundary, least = [p for p in everywhere if labels[p] == ignore_label], 0
    else:
        valid = [p for p in everywhere if labels[p] != ignore_label]
        boundary = [p for p in valid if any(chebyshev(p, q) == 1 and labels[p] != labels[q] for q in valid)]
        least = 1
    distance = np.full(labels.shape, 10**6)
    for p in everywhere:
        if boundary:
            distance[p] = min(chebyshev(p, q) for q in boundary) + least
    return distance
