"""The Encoding layer: a codebook that summarises a feature map as K residual vectors.

Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, https://arxiv.org/abs/1803.08904, section 3.1.

    r_ik = x_i - d_k                                    residual of feature i to codeword k
    a_ik = softmax_k(s_k * |r_ik|^2)                    soft assignment, s_k is negative
    e_k  = sum_i a_ik * r_ik                            what is left of the features around codeword k

Public implementations build the residuals, a B x N x K x C tensor (512 MiB for one 1024 x 512 crop at stride 8). Here
the squares are expanded, so that both steps are matrix products and nothing larger than the input appears:

    |x - d|^2 = |x|^2 - 2 x.d + |d|^2                   e_k = sum_i a_ik x_i - (sum_i a_ik) d_k

The backward pass is written out for the same reason, with four more products. X is C x N, D and the output's gradient G
are K x C, A = (a_ik) is N x K:

    dA = X^T G^T - sum_c G * D                          from e
    dL = A * (dA - sum_k A * dA)                        from the softmax, L its logits
    dX = G^T A^T - 2 (s * D)^T dL^T + 2 X * (dL s)^T    the last factor is one number for each position
    dD = 2 s * (sum_i dL * D - dL^T X^T) - sum_i A * G
    ds = sum_i dL * (|x|^2 - 2 x.d + |d|^2)

Shape letters: B batch, C channels, K codewords, N = H * W positions.
"""

from typing import Optional, Tuple

import paddle
import paddle.nn as nn
from paddle.autograd.py_layer import PyLayerContext, once_differentiable

NOTHING = -40.0
LEAST = 4.25e-18        # e^-40 = 4.248e-18, and what exp() may be off by


class Encoding(nn.Layer):
    """Encodes [B, C, H, W] or [B, C, N] features into [B, K, C] residual vectors.

    Args:
        channels: C, the width of the features and of each codeword.
        num_codes: K, the number of codewords.
        random_scale: while training draw s_k ~ U(-1, 0) anew at each call, in evaluation use -0.5; nothing is learnt of
            it. PyTorch-Encoding's `EncodingDrop`, against overfitting in long trainings.
        scale_rate: of the learning rate, what the factors s_k learn with; 0 holds them.

    Parameters `codewords` [K, C] start in U(-1/sqrt(K C), 1/sqrt(K C)), `scale` [K] in U(-1, 0): the factor is stored
    negative, as in all public implementations. Arithmetic and output are float32 whatever the input's type and whatever
    casts the network around it: |x|^2 leaves float16's range (65504) at a width of 512, and so do the sums over
    positions, where one codeword takes most of an image of 2048 x 1024. Of a float64 input the output is float64 again.

    While training, the backward pass is hand-written; in evaluation mode and in static graphs all is plain operations.
    Neither has second derivatives, as the stock layer has none. paddle.grad() towards some of the inputs only (the
    features without the codewords, say) needs evaluation mode: Paddle refuses it for every hand-written backward pass.

    Raises:
        ValueError: the input has another rank than 3 or 4, or another number of channels.
    """

    def __init__(self, channels: int, num_codes: int, random_scale: bool = False, scale_rate: float = 1.0):
        super().__init__()
        if channels < 1 or num_codes < 1:
            raise ValueError(f"Encoding needs channels >= 1 and num_codes >= 1, got {channels} and {num_codes}")
        self.channels, self.num_codes, self.random_scale = channels, num_codes, random_scale
        bound = (num_codes * channels) ** -0.5
        self.codewords = self.create_parameter(
            shape=[num_codes, channels], default_initializer=nn.initializer.Uniform(-bound, bound))
        # With a random scale this is what evaluation uses, no parameter to train: DataParallel waits for the gradient
        # of each of those.
        self.scale = self.create_parameter(
            shape=[num_codes], attr=paddle.ParamAttr(trainable=not random_scale, learning_rate=scale_rate),
            default_initializer=nn.initializer.Constant(-0.5) if random_scale else nn.initializer.Uniform(-1, 0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        with paddle.amp.auto_cast(enable=False):
            features, codewords = centred(self.flatten(x), as_float32(self.codewords))
            # Elsewhere plain operations: they can be exported, and Paddle can differentiate them towards any input.
            by_hand = self.training and paddle.in_dynamic_mode() and paddle.is_grad_enabled()
            drawn = self.random_scale and self.training
            scale = paddle.uniform([self.num_codes], min=-1.0, max=0.0) if drawn else as_float32(self.scale)
            encoded = (Encode.apply if by_hand else encode)(features, codewords, scale)     # [B, K, C]
            return encoded.astype(x.dtype) if x.dtype == paddle.float64 else encoded

    def assign(self, x: paddle.Tensor) -> paddle.Tensor:
        """Soft assignment of each feature to the codewords: the input of forward() -> [B, N, K], sums to 1 over K."""
        with paddle.amp.auto_cast(enable=False):
            features, codewords = centred(self.flatten(x), as_float32(self.codewords))
            return assign(features, powers(features), codewords, as_float32(self.scale))

    def flatten(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, C, H, W] or [B, C, N] of any float type -> [B, C, N] float32."""
        if x.ndim not in (3, 4):
            raise ValueError(f"Encoding takes [B, C, H, W] or [B, C, N]: rank 4 or 3, got rank {x.ndim}, "
                             f"shape {list(x.shape)}")
        if x.shape[1] != self.channels:
            raise ValueError(f"Encoding has {self.channels} channels, the input has {x.shape[1]}, "
                             f"shape {list(x.shape)}")
        return as_float32(x.flatten(2) if x.ndim == 4 else x)


def encode(features: paddle.Tensor, codewords: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
    """The layer's equations in plain operations: [B, C, N], [K, C] and [K] -> [B, K, C]."""
    kept = powers(features)
    assignment = assign(features, kept, codewords, scale)
    return aggregate(features, assignment, masses(kept, assignment), codewords)


class Encode(paddle.autograd.PyLayer):
    """encode() with the backward pass that stands at the top of this file."""

    @staticmethod
    def forward(ctx: PyLayerContext, features: paddle.Tensor, codewords: paddle.Tensor,
                scale: paddle.Tensor) -> paddle.Tensor:
        kept = powers(features)
        assignment = assign(features, kept, codewords, scale)
        mass = masses(kept, assignment)
        ctx.save_for_backward(features, kept, codewords, scale, assignment, mass)
        ctx.frozen = [tensor.stop_gradient for tensor in (features, codewords, scale)]
        return aggregate(features, assignment, mass, codewords)

    @staticmethod
    @once_differentiable
    def backward(ctx: PyLayerContext, grad: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        with paddle.amp.auto_cast(enable=False):
            gradients = encode_backward(grad, *ctx.saved_tensor())
        # Paddle insists on None for what is frozen.
        return tuple(None if frozen else gradient for frozen, gradient in zip(ctx.frozen, gradients))


def encode_backward(grad: paddle.Tensor, features: paddle.Tensor, kept: paddle.Tensor, codewords: paddle.Tensor,
                    scale: paddle.Tensor, assignment: paddle.Tensor, mass: paddle.Tensor) -> Tuple[paddle.Tensor,
                    paddle.Tensor, paddle.Tensor]:
    """Gradients of features [B, C, N], codewords [K, C] and scale [K] from that of the output [B, K, C]."""
    twice = (2 * scale).unsqueeze(1).expand_as(codewords)                               # [K, C]

    # Through the residuals and the softmax, both [B, N, K].
    own = (grad * codewords).sum(2).unsqueeze(1)                                        # [B, 1, K]
    weighted = assignment * (transposed_product(features, grad) - own.expand_as(assignment))
    mean = paddle.matmul(weighted, paddle.ones([scale.shape[0], 1]))                    # [B, N, 1]
    logits = weighted - assignment * mean.expand_as(assignment)

    # To the features: a factor for each position, then both products in one, added where the result stands: sums
    # of whole tensors would take twice the memory.
    factor = transposed_product(twice[:, :1], logits)                                   # [B, 1, N]
    to_features = paddle.matmul(paddle.ones([features.shape[1], 1]), factor).multiply_(features)    # [B, C, N]
    rows = paddle.concat([grad, (-twice * codewords).expand_as(grad)], axis=1)          # [B, 2 K, C]
    unit = paddle.eye(scale.shape[0])               # its product transposes faster than Paddle's transpose
    columns = paddle.concat([transposed_product(unit, each) for each in (assignment, logits)], axis=1)
    views = to_features[0].data_ptr() == to_features.data_ptr()     # an index is a copy with FLAGS_use_stride_kernel=0
    for i in range(features.shape[0]):
        own = to_features[i]
        own.addmm_(rows[i].t(), columns[i])                                             # [C, 2 K] x [2 K, N]
        if not views:
            to_features[i] = own

    # To the codebook, from sums over the positions.
    squares, ones = paddle.matmul(kept, logits).unsqueeze(3).unbind(1)                  # [B, K, 1] each
    pull = ones.expand_as(grad) * codewords                                             # [B, K, C]
    cross = paddle.matmul(features, logits).transpose([0, 2, 1])                        # [B, K, C]
    to_codewords = twice * (pull - cross) - mass.expand_as(grad) * grad                 # [B, K, C]
    to_scale = squares.squeeze(2) + ((pull - 2 * cross) * codewords).sum(2)             # [B, K]
    return to_features, to_codewords.sum(0), to_scale.sum(0)


# What is slow in Paddle's CPU kernels is avoided: a sum over an axis that is not the last (a product with ones is 50 x
# faster), arithmetic that broadcasts (20 x slower than the same after expand), softmax (a third slower than its parts),
# and a product that leaves [K, N] (a third slower than one that leaves [N, K]).

def centred(features: paddle.Tensor, codewords: paddle.Tensor) -> Tuple[paddle.Tensor, paddle.Tensor]:
    """Both without what the codewords have in common, which changes no residual: [B, C, N] and [K, C], the same again.

    Where the codewords lie together far from zero, the expanded square would be a small difference of large numbers.
    """
    # It costs a copy of the features, so not where the centre is nearer to zero than the codewords are to it. Only on
    # the CPU is that asked: elsewhere the answer would take longer than the copy.
    far = True
    if paddle.in_dynamic_mode() and paddle.get_device() == "cpu":
        values = codewords.numpy()
        far = 2 * (values.sum(0) ** 2).sum() > len(values) * (values ** 2).sum()
    if far:
        centre = constant(codewords.mean(0, keepdim=True))                                  # [1, C]
        features = features - spread(centre.t(), features)
        codewords = codewords - spread(centre, codewords)
    return features, codewords


def powers(features: paddle.Tensor) -> paddle.Tensor:
    """|x_i|^2 and 1: [B, C, N] -> [B, 2, N]."""
    squares = paddle.matmul(paddle.ones([1, features.shape[1]]), features * features)       # [B, 1, N]
    return paddle.concat([squares, paddle.ones_like(squares)], axis=1)


def assign(features: paddle.Tensor, powers: paddle.Tensor, codewords: paddle.Tensor,
           scale: paddle.Tensor) -> paddle.Tensor:
    """softmax_k(s_k |x_i - d_k|^2): [B, C, N], its powers(), [K, C] and [K] -> [B, N, K]."""
    # The scale goes into the small factors, so that N-sized tensors are touched only by products.
    rows = spread((-2 * scale).unsqueeze(1), codewords) * codewords                         # [K, C]
    cross = transposed_product(features, rows)                                              # [B, N, K]
    factors = paddle.stack([scale, scale * (codewords * codewords).sum(1)])                 # [2, K]
    logits = cross + paddle.matmul(powers, factors, transpose_x=True)
    exponents = above_nothing(logits - spread(constant(logits.max(2, keepdim=True)), logits))
    return exponents / paddle.matmul(exponents, paddle.ones([scale.shape[0]] * 2))          # their sum in each column


def above_nothing(logits: paddle.Tensor) -> paddle.Tensor:
    """exp(logits), of logits up to 0, and exactly 0 where that is below e^-40 = 4e-18.

    Where one codeword takes all, the logits of the others reach -600, and what float32 has for their exponentials are
    denormal numbers: an Intel processor needs a hundred times as long for each product with one. Left out, they change
    e_k by less than N e^-40 max_i |r_ik|, which float32 can't tell from the sum wherever a codeword takes a share of
    1e-10 of a position; one that takes less has a code of 0, as far as the batch norm behind it (epsilon 1e-5) can see.
    """
    return paddle.nn.functional.relu(paddle.exp(paddle.clip(logits, min=NOTHING)) - LEAST)


def masses(powers: paddle.Tensor, assignment: paddle.Tensor) -> paddle.Tensor:
    """sum_i a_ik: [B, 2, N] and [B, N, K] -> [B, K, 1]."""
    return paddle.matmul(powers[:, 1:], assignment).transpose([0, 2, 1])


def aggregate(features: paddle.Tensor, assignment: paddle.Tensor, mass: paddle.Tensor,
              codewords: paddle.Tensor) -> paddle.Tensor:
    """sum_i a_ik (x_i - d_k): [B, C, N], [B, N, K], its masses() and [K, C] -> [B, K, C]."""
    weighted = paddle.matmul(features, assignment).transpose([0, 2, 1])                     # [B, K, C]
    return weighted - spread(mass, weighted) * codewords


def constant(x: paddle.Tensor) -> paddle.Tensor:
    """x, through which no gradient flows. (Paddle 2.6 can't save a static graph with detach() of a parameter.)"""
    x.stop_gradient = True
    return x


def spread(x: paddle.Tensor, to: paddle.Tensor) -> paddle.Tensor:
    """x at the size of `to`, for arithmetic with it. A static graph, whose sizes may be free, does that by itself."""
    return x.expand_as(to) if paddle.in_dynamic_mode() else x


def transposed_product(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """a^T b^T over the last two axes."""
    return paddle.matmul(a, b, transpose_x=True, transpose_y=True)


def as_float32(x: paddle.Tensor) -> paddle.Tensor:
    return x if x.dtype == paddle.float32 else x.astype("float32")
