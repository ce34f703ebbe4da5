"""EncNet and ResNets in plain PyTorch, for comparison: `state_dict()` has the names of the codebase that is imitated.

Written from the description of the networks, layer by layer, with nothing taken from the code under test: the encoding
layer builds the residuals in full, where ours expands the square.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

# Its threads wait by spinning, which takes ten times as long on a machine that does something else too.
torch.set_num_threads(1)

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def conv_bn_relu(inputs, outputs, kernel):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU())


class ConvModule(nn.Module):
    """mmcv's convolution, batch norm, ReLU."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    def __init__(self, inputs, width, bottleneck, stride, dilation, pooled):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)] if bottleneck else \
            [(inputs, width, 3), (width, width, 3)]
        spatial = 1 if bottleneck else 0            # the convolution that has the stride and the dilation
        self.count = len(sizes)
        for i, (before, after, kernel) in enumerate(sizes):
            s, d = (stride, dilation) if i == spatial else (1, 1)
            setattr(self, f"conv{i + 1}", nn.Conv2d(before, after, kernel, s, d * (kernel // 2), d, bias=False))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(after))
        if stride == 1 and inputs == outputs:
            self.downsample = nn.Identity()
        elif pooled:
            pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if stride == 2 else nn.Identity()
            self.downsample = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        else:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """stem: "7x7" (conv1, bn1), "conv1" (three convolutions in conv1, then bn1) or "stem" (mmcv's)."""

    def __init__(self, depth, stem="7x7", width=32, dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2), pooled=False,
                 classes=1000):
        super().__init__()
        deep = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False)]
        if stem == "stem":
            self.stem = nn.Sequential(*deep, nn.BatchNorm2d(2 * width), nn.ReLU())
        else:
            self.conv1 = nn.Sequential(*deep) if stem == "conv1" else nn.Conv2d(3, 2 * width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(2 * width)
        inputs = 2 * width
        for i, (count, dilation, stride) in enumerate(zip(BLOCKS[depth], dilations, strides)):
            plane = 64 * 2 ** i
            blocks = []
            for index in range(count):
                d = max(dilation // 2, 1) if index == 0 else dilation
                blocks.append(Block(inputs, plane, depth >= 50, stride if index == 0 else 1, d, pooled))
                inputs = plane * (4 if depth >= 50 else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        if classes:
            self.fc = nn.Linear(inputs, classes)
        self.widths = [64 * 2 ** i * (4 if depth >= 50 else 1) for i in range(4)]

    def forward(self, x):
        x = self.stem(x) if hasattr(self, "stem") else F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            maps.append(x)
        return maps


class Encoding(nn.Module):
    def __init__(self, channels, codes):
        super().__init__()
        self.codewords = nn.Parameter(torch.empty(codes, channels))
        self.scale = nn.Parameter(torch.empty(codes))

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)                                            # [B, N, C]
        residuals = x.unsqueeze(2) - self.codewords                                 # [B, N, K, C]
        weights = torch.softmax(self.scale * residuals.pow(2).sum(3), dim=2)        # [B, N, K]
        return (weights.unsqueeze(3) * residuals).sum(1)                            # [B, K, C]


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def attend(x, gamma):
    return F.relu(x + x * gamma[:, :, None, None])


class Separable(nn.Module):
    """FastFCN's: depthwise 3 x 3, batch norm, 1 x 1."""

    def __init__(self, inputs, outputs, dilation):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 1, dilation, dilation, groups=inputs, bias=False)
        self.bn = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.bn(self.conv1(x)))


class JPU(nn.Module):
    """FastFCN's joint pyramid upsampling of the last three of four maps: [B, 4 * width, h, w]."""

    def __init__(self, widths, width):
        super().__init__()
        for i in (3, 4, 5):
            setattr(self, f"conv{i}", conv_bn_relu(widths[i - 2], width, 3))
        for i in (1, 2, 3, 4):
            setattr(self, f"dilation{i}", nn.Sequential(Separable(3 * width, width, 2 ** (i - 1)),
                                                        nn.BatchNorm2d(width), nn.ReLU()))

    def forward(self, maps):
        finest = self.conv3(maps[1])
        coarse = [F.interpolate(conv(x), finest.shape[2:], mode="bilinear", align_corners=True)
                  for conv, x in ((self.conv5, maps[3]), (self.conv4, maps[2]))]
        pyramid = torch.cat([*coarse, finest], 1)
        return torch.cat([getattr(self, f"dilation{i}")(pyramid) for i in (1, 2, 3, 4)], 1)


class EncodingEncNet(nn.Module):
    """PyTorch-Encoding's, with jpu FastFCN's. Returns logits, presence logits, auxiliary logits."""

    def __init__(self, depth, classes, lateral, codes=32, width=512, se_loss=True, aux=True, fc=True, jpu=False):
        super().__init__()
        dilations, strides = ((1, 1, 1, 1), (1, 2, 2, 2)) if jpu else ((1, 1, 2, 4), (1, 2, 1, 1))
        self.pretrained = ResNet(depth, "conv1", 64, dilations, strides, classes=1000 if fc else 0)
        widths = self.pretrained.widths
        head = self.head = nn.Module()
        if jpu:
            self.jpu = JPU(widths, width)
        head.conv5 = conv_bn_relu(4 * width, width, 1) if jpu else conv_bn_relu(widths[3], width, 3)
        if lateral:
            head.connect = nn.ModuleList([conv_bn_relu(widths[1], width, 1), conv_bn_relu(widths[2], width, 1)])
            head.fusion = conv_bn_relu(3 * width, width, 3)
        module = head.encmodule = nn.Module()
        module.encoding = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), Encoding(width, codes),
            nn.BatchNorm1d(codes), nn.ReLU(), Mean())
        module.fc = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        if se_loss:
            module.selayer = nn.Linear(width, classes)
        head.conv6 = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, classes, 1))
        if aux:
            self.auxlayer = nn.Module()
            self.auxlayer.conv5 = nn.Sequential(*conv_bn_relu(widths[2], 256, 3), nn.Dropout2d(0.1),
                                                nn.Conv2d(256, classes, 1))

    def forward(self, x):
        maps = self.pretrained(x)
        y = self.head.conv5(self.jpu(maps) if hasattr(self, "jpu") else maps[3])
        if hasattr(self.head, "fusion"):
            laterals = [connect(m) for connect, m in zip(self.head.connect, maps[1:3])]
            y = self.head.fusion(torch.cat([y, *laterals], 1))
        context = self.head.encmodule.encoding(y)
        logits = self.head.conv6(attend(y, self.head.encmodule.fc(context)))
        outputs = [F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)]
        if hasattr(self.head.encmodule, "selayer"):
            outputs.append(self.head.encmodule.selayer(context))
        if hasattr(self, "auxlayer"):
            outputs.append(F.interpolate(self.auxlayer.conv5(maps[2]), x.shape[2:], mode="bilinear",
                                         align_corners=True))
        return outputs


class MMSegEncNet(nn.Module):
    """mmsegmentation's EncoderDecoder with an EncHead. Returns logits, presence logits, auxiliary logits."""

    def __init__(self, depth, classes, lateral, codes=32, width=512, align_corners=False, stem_width=32, aux=True,
                 se_loss=True):
        super().__init__()
        self.align_corners = align_corners
        self.backbone = ResNet(depth, "stem", stem_width, (1, 1, 2, 4), (1, 2, 1, 1), classes=0)
        widths = self.backbone.widths
        head = self.decode_head = nn.Module()
        head.conv_seg = nn.Conv2d(width, classes, 1)
        head.bottleneck = ConvModule(widths[3], width, 3)
        if lateral:
            head.lateral_convs = nn.ModuleList([ConvModule(widths[1], width, 1), ConvModule(widths[2], width, 1)])
            head.fusion = ConvModule(3 * width, width, 3)
        module = head.enc_module = nn.Module()
        module.encoding_project = ConvModule(width, width, 1)
        module.encoding = nn.Sequential(Encoding(width, codes), nn.BatchNorm1d(codes), nn.ReLU())
        module.fc = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        if se_loss:
            head.se_layer = nn.Linear(width, classes)
        if aux:
            self.auxiliary_head = nn.Module()
            self.auxiliary_head.conv_seg = nn.Conv2d(256, classes, 1)
            self.auxiliary_head.convs = nn.Sequential(ConvModule(widths[2], 256, 3))

    def resize(self, x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)

    def forward(self, x):
        maps, head = self.backbone(x), self.decode_head
        y = head.bottleneck(maps[3])
        if hasattr(head, "fusion"):
            y = head.fusion(torch.cat([y, *(conv(m) for conv, m in zip(head.lateral_convs, maps[1:3]))], 1))
        context = head.enc_module.encoding(head.enc_module.encoding_project(y)).mean(1)
        outputs = [self.resize(head.conv_seg(attend(y, head.enc_module.fc(context))), x.shape[2:])]
        if hasattr(head, "se_layer"):
            outputs.append(head.se_layer(context))
        if hasattr(self, "auxiliary_head"):
            aux = self.auxiliary_head
            outputs.append(self.resize(aux.conv_seg(aux.convs(maps[2])), x.shape[2:]))
        return outputs


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every parameter and running statistic a value of its own, of a size that keeps activations near 1."""
    random = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.uniform_(low, high, generator=random)

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                bound = (6 / layer.weight[0].numel()) ** 0.5
                uniform(layer.weight, -bound, bound)
                if layer.bias is not None:
                    uniform(layer.bias, -0.5, 0.5)
            elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
                uniform(layer.weight, 0.4, 0.9)
                uniform(layer.bias, -0.3, 0.3)
                uniform(layer.running_mean, -0.3, 0.3)
                uniform(layer.running_var, 0.5, 1.5)
            elif isinstance(layer, Encoding):
                bound = layer.codewords.numel() ** -0.5
                uniform(layer.codewords, -8 * bound, 8 * bound)
                uniform(layer.scale, -1, 0)
    return module.eval()


def arrays(module: nn.Module) -> dict:
    """The state_dict as a reader of files returns it: NumPy arrays that are not shared with the module."""
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}
