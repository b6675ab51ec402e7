"""Installation of the ``stemseg`` package: ``pip install -e .`` from a clone's root."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="stemseg",
    version="1.0.0",
    description="Hierarchical-embedding video instance segmentation: segmentation and tracking in one pass",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The stemseg authors",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords="video instance segmentation, multi-object tracking and segmentation, normalizing flows, PyTorch",
    project_urls={"Published weights": "https://omnomnom.vision.rwth-aachen.de/data/STEm-Seg/models/"},
    python_requires=">=3.10",
    packages=[*find_packages(include=["stemseg", "stemseg.*"]), "stemseg.configs"],
    package_dir={"stemseg.configs": "configs"},
    package_data={
        "stemseg": ["py.typed", "pretrained/*"],
        "stemseg.configs": ["*.yaml"],
        "stemseg.data": ["category_maps/*.yaml"],
    },
    entry_points={
        "console_scripts": [
            "stemseg-train = stemseg.training.main:main",
            "stemseg-infer = stemseg.inference.main:main",
            "stemseg-evaluate = stemseg.evaluation.main:main",
            "stemseg-prepare = stemseg.data.prepare.main:main",
            "stemseg-convert-backbone = stemseg.modeling.backbone.convert_main:main",
        ]
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "opencv-python>=4.8",
        "numpy>=1.26",
        "imgaug>=0.4.0",
        "pillow>=10.1",
        "tqdm>=4.65",
        "pyyaml>=6.0",
        "tensorboardX>=2.6",
        "scipy>=1.11",
        "pycocotools>=2.0.7",
    ],
    extras_require={
        "dev": [
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "pytest-cov>=6.0",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<2.5",
            "types-PyYAML>=6.0",
            "tensorboard>=2.18",
        ],
        "eval": ["trackeval>=1.3.0"],
    },
    classifiers=[
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
