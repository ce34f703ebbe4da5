# make demo             install, draw street scenes, train, evaluate, predict, explain; then predict a photograph with
#                       the trained network in weights/: ten minutes on two cores
# make test             install and run all tests;  make test PADDLE=2.6.2 with another Paddle
# make lint             names, import order, types, that a text file is opened with its encoding named, and that each room imports only from rooms below its own
# make stress           what takes too long for make test: runs, ranks and machines that fail at random moments, full
#                       disks; an hour
# make bench            ours beside PaddleSeg's, PyTorch's and the floor; writes docs/measured/ and the pages' tables, all
#                       or nothing; needs PyTorch and the runtimes; half an hour
# make gpu-check        what holds on this machine's GPU, as a page in docs/measured; on a CPU it says what it could not
#                       check, in two minutes. With the Paddle of PY=python, or else of $(VENV)
# PYTHON=python3.10     another interpreter, 3.9 to 3.12

PYTHON ?= python3
PADDLE ?= 3.3.1
VENV ?= .venv-paddle-$(PADDLE)
RUN = $(VENV)/bin/python
# The last paddle2onnx for Paddle 2.6; later ones load with Paddle 3 alone.
CONVERTER = $(if $(filter 2.%,$(PADDLE)),"paddle2onnx==1.3.1")

DEMO ?= output/demo
DEMO_ITERS ?= 300
CONFIG = configs/encnet_quick_start.yml
SHIPPED = configs/encnet_lite0_camvid_480x360.yml

.PHONY: demo test lint stress bench gpu-check install clean
.DELETE_ON_ERROR:

install: $(VENV)/installed

# Everything in one go: NumPy stays at 1, which the OpenCV that PaddleSeg asks for was built with.
$(VENV)/installed: setup.py
	@$(PYTHON) -c "import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))" || \
		{ echo "error: $$($(PYTHON) --version) can't run Paddle $(PADDLE); call make PYTHON=python3.11, 3.9 to 3.12 will do" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[dev]" "paddlepaddle==$(PADDLE)" $(CONVERTER)
	$(RUN) -m pip --disable-pip-version-check check
	@$(RUN) -c "import cv2" || \
		{ echo "error: OpenCV does not load; where it asks for libGL: apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
	@touch $@

test: install
	$(RUN) -m pytest tests

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff check --preview --select PLW1514 segrun paddleseg_encnet tools benchmarks setup.py
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

stress: install
	$(RUN) tests/stress_resume.py
	$(RUN) tests/stress_ranks.py
	RULES=stress $(RUN) -m pytest tests -m rule
	$(RUN) tests/stress_machines.py

# Says what is to be installed in $(VENV) where something is missing.
bench: install
	$(RUN) benchmarks/all.py

# install brings Paddle for CPUs: PY=python is the one of an environment with pip install -e ".[gpu]".
gpu-check: $(if $(PY),,install)
	$(or $(PY),$(RUN)) tools/gpu_check.py --save_dir docs/measured

demo: install
	$(RUN) tools/make_scenes.py --save_dir data/scenes
	$(RUN) tools/train.py --config $(CONFIG) --iters $(DEMO_ITERS) --save_interval $(DEMO_ITERS) --do_eval --use_vdl --device cpu --seed 1 --save_dir $(DEMO)
	$(RUN) tools/val.py --config $(CONFIG) --model_path $(DEMO)/best_model/model.pdparams --device cpu \
		--save_confusion $(DEMO)/confusion.png
	$(RUN) tools/predict.py --config $(CONFIG) --model_path $(DEMO)/best_model/model.pdparams --device cpu \
		--image_path data/scenes/leftImg8bit/val --save_dir $(DEMO)/pictures --save legend
	$(RUN) tools/explain.py --config $(CONFIG) --model_path $(DEMO)/best_model/model.pdparams --device cpu \
		--image_path "$$(ls data/scenes/leftImg8bit/val/*/*.png | head -n 1)" --save_dir $(DEMO)/explain
	$(RUN) tools/predict.py --config $(SHIPPED) --model_path weights/encnet_lite0_camvid.safetensors --device cpu \
		--image_path docs/images/street.jpg --save_dir $(DEMO)/photograph --save legend
	@echo "A photograph, by the network in weights/: $(DEMO)/photograph/legend/street.png"
	@echo "Pictures: $(DEMO)/pictures/legend, $(DEMO)/confusion.png   What the network saw: $(DEMO)/explain"
	@echo "Dashboard: $(VENV)/bin/visualdl --logdir $(DEMO)"

clean:
	rm -rf .venv-paddle-* output data/scenes
