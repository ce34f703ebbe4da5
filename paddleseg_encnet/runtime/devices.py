"""Device, ranks and precision: decided once, before the loops, which then only use what stands here."""

import contextlib
import os
from dataclasses import dataclass
from typing import Any, ContextManager, List, Optional, Sequence, Tuple, Type

import numpy as np
import paddle
from paddleseg.utils import logger

from paddleseg_encnet.runtime import watch

# Seconds to wait for the other ranks, unless Paddle's own variable FLAGS_stop_check_timeout says; its default is 900.
PATIENCE = 300

# Of any Paddle, whatever this one was built for.
KINDS = ("cpu", "gpu", "xpu", "npu", "mlu", "gcu", "ipu")

# Layers that PaddleSeg runs in half precision too, and the one that it never does.
AMP_LISTS = dict(custom_white_list={"elementwise_add", "batch_norm", "sync_batch_norm"},
                 custom_black_list={"bilinear_interp_v2"})


def select_device(name: Optional[str] = None) -> str:
    """Makes "gpu", "gpu:1", "cpu", "xpu", ... Paddle's device and returns what it became: the CPU where there is no
    such device, which is said. None is the GPU or, without a word, the CPU. Which device of a kind a rank takes is the
    launcher's choice, not the name's.

    Raises:
        ValueError: no Paddle has devices of that name.
    """
    asked, name = name is not None, name or "gpu"
    kind, colon, number = name.partition(":")
    known = [*KINDS, *paddle.device.get_all_custom_device_type()]
    if kind not in known or colon and not number.isdecimal():
        raise ValueError(f"the device is {name!r}: it must be {', '.join(known)}, or one with a number, as gpu:1")
    if paddle.distributed.ParallelEnv().nranks > 1:
        name = kind
    available = {
        "cpu": True,
        "gpu": paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0,
        "xpu": paddle.is_compiled_with_xpu(),
    }.get(kind, kind in paddle.device.get_all_custom_device_type())
    if asked and not available:
        logger.warning(f"this Paddle has no {kind}; running on the CPU. --device cpu says so without this line")
    paddle.set_device(name if available else "cpu")
    return paddle.get_device()


@dataclass(frozen=True)
class Ranks:
    """This process among those that `python -m paddle.distributed.launch` started; one of one without it."""
    rank: int
    count: int

    @classmethod
    def join(cls) -> "Ranks":
        """Connects to the other ranks, if there are any. From then on this process ends, with a line on stderr, where
        another rank ends without having finished; likewise where one does not come in time."""
        env = paddle.distributed.ParallelEnv()
        if env.nranks > 1 and not paddle.distributed.is_initialized():
            patience = int(os.environ.setdefault("FLAGS_stop_check_timeout", str(PATIENCE)))   # Paddle reads it below
            if paddle.get_device() == "cpu":
                # Else a Paddle for GPUs takes NCCL, and puts the device that was chosen back to its GPU.
                os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
            watch.start(env.rank, env.trainer_endpoints, patience)
            with watch.limit(patience, f"all ranks are there but did not connect within {patience} s; NCCL_DEBUG=INFO "
                             "in the environment shows what NCCL tries, NCCL_SOCKET_IFNAME=NAME names the network "
                             "interface between the machines"):
                paddle.distributed.init_parallel_env()
                # NCCL connects the ranks only now, at the first collective, and has done so when its result is read.
                cls(env.rank, env.nranks).sum(np.ones(1, np.float32))
        return cls(env.rank, env.nranks)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def synchronise(self, model: paddle.nn.Layer, device: str) -> paddle.nn.Layer:
        """The model with every BatchNorm, that over the codewords included, taking its statistics from the samples of
        all ranks. Parameters and statistics stay the same objects. Left alone with one rank, and where Paddle has no
        kernel for it: anywhere but on a GPU."""
        if self.count == 1 or device.split(":")[0] != "gpu":
            return model
        logger.info(f"BatchNorm takes its statistics from the samples of all {self.count} ranks")
        return paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def distribute(self, model: paddle.nn.Layer) -> paddle.nn.Layer:
        """The model whose backward pass averages gradients over the ranks."""
        return paddle.DataParallel(model) if self.count > 1 else model

    def apart(self, network: paddle.nn.Layer) -> ContextManager[Any]:
        """Forward and backward passes within leave their gradients on this rank; the next ones outside add theirs, and
        average the sum over the ranks."""
        return network.no_sync() if self.count > 1 else contextlib.nullcontext()

    def broadcast_weights(self, model: paddle.nn.Layer) -> None:
        """Gives every rank the weights and statistics of the first one, which are those that are saved. Without
        synchronised BatchNorm (on the CPU) each rank has gathered statistics of its own."""
        if self.count > 1:
            self.meet()
            # Without the hooks of amp.decorate(), which make float32 copies: what is written into them is lost.
            for tensor in model.state_dict(use_hook=False).values():
                paddle.distributed.broadcast(tensor, src=0)

    def meet(self) -> None:
        """Waits for the other ranks, however long they take; gloo's own operations give up after 30 seconds."""
        if self.count > 1:
            watch.meet()

    def sum(self, array: np.ndarray) -> np.ndarray:
        """NumPy array, summed over the ranks; every rank has one of the same size."""
        if self.count == 1:
            return array
        tensor = paddle.to_tensor(array)
        paddle.distributed.all_reduce(tensor)
        return tensor.numpy()

    def where(self, *flags: bool) -> List[List[int]]:
        """For each flag the ranks on which it is set, in one exchange."""
        table = np.zeros([len(flags), self.count], dtype=np.int64)
        table[:, self.rank] = flags
        return [np.flatnonzero(row).tolist() for row in self.sum(table)]


class Precision:
    """Float32, or automatic mixed precision as PaddleSeg has it (`precision="fp16"`, `amp_level` "O1" or "O2").

    Raises:
        ValueError: there is no such precision or level.
    """

    def __init__(self, precision: str = "fp32", amp_level: str = "O1"):
        for name, value, known in (("precision", precision, ("fp32", "fp16")), ("amp_level", amp_level, ("O1", "O2"))):
            if value not in known:
                raise ValueError(f"{name} is {known[0]} or {known[1]}, got {value!r}")
        self.half, self.level = precision == "fp16", amp_level
        self.scaler: Optional[paddle.amp.GradScaler] = None

    def prepare(self, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer,
                scaler_state: Optional[dict] = None, float32_layers: Sequence[Type[paddle.nn.Layer]] = ()
                ) -> Tuple[paddle.nn.Layer, paddle.optimizer.Optimizer]:
        """Model and optimiser ready for this precision; a resumed run's loss scaling goes on from `scaler_state`. The
        parameters of layers of some types are left in float32."""
        if self.half:
            self.scaler = paddle.amp.GradScaler(init_loss_scaling=1024)
            if scaler_state:
                self.scaler.load_state_dict(scaler_state)
            if self.level == "O2":
                model, optimizer = paddle.amp.decorate(models=model, optimizers=optimizer, level="O2",
                                                       save_dtype="float32", excluded_layers=list(float32_layers))
        return model, optimizer

    def state(self) -> dict:
        """The loss scaling in plain numbers; empty in float32."""
        state = self.scaler.state_dict() if self.scaler else {}
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in state.items()}

    def context(self) -> ContextManager[Any]:
        """Runs the forward pass inside it."""
        return paddle.amp.auto_cast(level=self.level, **AMP_LISTS) if self.half else contextlib.nullcontext()

    def backward(self, loss: paddle.Tensor) -> None:
        """Backward pass; adds to the gradients that are there."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def update(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """The parameters, from the gradients."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
