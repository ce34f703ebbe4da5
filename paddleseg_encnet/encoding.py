"""The Encoding layer: a codebook that summarises a feature map as K residual vectors.

Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, https://arxiv.org/abs/1803.08904, section 3.1.

    r_ik = x_i - d_k                                    residual of feature i to codeword k
    a_ik = softmax_k(s_k * |r_ik|^2)                    soft assignment, s_k is negative
    e_k  = sum_i a_ik * r_ik                            what is left of the features around codeword k

Public implementations build the residuals, a B x N x K x C tensor (512 MiB for one 1024 x 512 crop at stride 8). Here
the squares are expanded, so that both steps are matrix products and nothing larger than the input appears:

    |x - d|^2 = |x|^2 - 2 x.d + |d|^2                   e_k = sum_i a_ik x_i - (sum_i a_ik) d_k

Shape letters: B batch, C channels, K codewords, N = H * W positions.
"""

import paddle
import paddle.nn as nn
import paddle.nn.functional as F


class Encoding(nn.Layer):
    """Encodes [B, C, H, W] or [B, C, N] features into [B, K, C] residual vectors.

    Args:
        channels: C, the width of the features and of each codeword.
        num_codes: K, the number of codewords.

    Parameters `codewords` [K, C] start in U(-1/sqrt(K C), 1/sqrt(K C)), `scale` [K] in U(-1, 0): the factor is stored
    negative, as in all public implementations. The arithmetic is float32 whatever the input's type, because |x|^2
    leaves float16's range (65504) at a width of 512; the output has the input's type.

    Raises:
        ValueError: the input has another rank than 3 or 4, or another number of channels.
    """

    def __init__(self, channels: int, num_codes: int):
        super().__init__()
        if channels < 1 or num_codes < 1:
            raise ValueError(f"Encoding needs channels >= 1 and num_codes >= 1, got {channels} and {num_codes}")
        self.channels, self.num_codes = channels, num_codes
        bound = (num_codes * channels) ** -0.5
        self.codewords = self.create_parameter(
            shape=[num_codes, channels], default_initializer=nn.initializer.Uniform(-bound, bound))
        self.scale = self.create_parameter(
            shape=[num_codes], default_initializer=nn.initializer.Uniform(-1, 0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        with paddle.amp.auto_cast(enable=False):
            features = self.flatten(x)                          # [B, C, N] float32
            encoded = self.aggregate(features, self.assign(features))
        return encoded.astype(x.dtype)                          # [B, K, C]

    def flatten(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, C, H, W] or [B, C, N] of any float type -> [B, C, N] float32."""
        if x.ndim not in (3, 4):
            raise ValueError(f"Encoding takes [B, C, H, W] or [B, C, N]: rank 4 or 3, got rank {x.ndim}, "
                             f"shape {list(x.shape)}")
        if x.shape[1] != self.channels:
            raise ValueError(f"Encoding has {self.channels} channels, the input has {x.shape[1]}, "
                             f"shape {list(x.shape)}")
        return x.flatten(2).astype("float32") if x.ndim == 4 else x.astype("float32")

    def assign(self, features: paddle.Tensor) -> paddle.Tensor:
        """Soft assignment of each feature to the codewords: [B, C, N] float32 -> [B, K, N], sums to 1 over K."""
        scale = self.scale.astype("float32").unsqueeze(1)                       # [K, 1]
        codewords = self.codewords.astype("float32")                            # [K, C]
        # The scale goes into the small factors, so that N-sized tensors are touched only by the two products.
        ones = paddle.ones([1, self.channels], dtype="float32")
        squares = paddle.matmul(ones, features * features)                      # [B, 1, N]; x.sum(1) is 50 x slower
        cross = paddle.matmul(-2 * scale * codewords, features)                 # [B, K, N]
        offset = scale * (codewords * codewords).sum(1, keepdim=True)           # [K, 1]
        return F.softmax(cross + paddle.matmul(scale, squares) + offset, axis=1)

    def aggregate(self, features: paddle.Tensor, assignment: paddle.Tensor) -> paddle.Tensor:
        """Sum of the assigned residuals: [B, C, N] and [B, K, N] -> [B, K, C]."""
        weighted = paddle.matmul(assignment, features, transpose_y=True)        # [B, K, C]
        mass = assignment.sum(-1, keepdim=True)                                 # [B, K, 1]
        return weighted - mass * self.codewords.astype("float32")
