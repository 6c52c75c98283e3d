"""The recipes of the papers have the papers' numbers, written here from their sources.

A recipe has one row; each of its numbers is the paper's or, where that is silent, the authors'
program's. Counts of parameters follow from the published layers; a box regressor of ours has no
rows for background, whose deltas no loss and no detection reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from personsearch.recipes import FOLDER, find
from personsearch.systems.base import PersonSearchModel
from personsearch.training.recipe import Recipe, read_recipe

CUHK_SYSU, PRW = 11206, 5704
"""Training pictures."""


@dataclass(frozen=True)
class Published:
    """What a paper says of the run that a recipe repeats."""

    num_ids: int  # labelled identities in training
    parameters: int  # of the network, frozen ones included
    keys: Mapping[str, Any]  # recipe keys and their values
    pictures: int = 0  # of an epoch; 0 where the schedule is in iterations
    epochs: Mapping[str, float] = field(default_factory=dict)  # recipe keys that are in epochs


TORCHVISION = {
    "anchor_sizes": (32, 64, 128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": 300,
    "rpn_batch_size_per_image": 256,
    "roi_size": (14, 14),
    "sampling_ratio": 2,
    "rois_per_image": 128,
    "roi_positive_fraction": 0.5,
    "nms_iou": 0.4,
    "max_detections": 300,
}
"""Proposals and regions of NAE's and SeqNet's programs."""

NAE_RUN = {
    "backbone": "resnet50",
    "norm": "batch",
    "frozen_stages": 2,
    "min_size": 900,
    "max_size": 1500,
    "images_per_iteration": 5,
    "accumulate": 1,
    "optimizer": "sgd",
    "lr": 0.003,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "bias_lr_factor": 1.0,
    "schedule": "step",
    "decay_factor": 0.1,
    "clip_norm": 10.0,
    "precision": "float32",
    "flip": 0.5,
    "roi_aligned": False,
    "embedding_dim": 256,
    "oim_momentum": 0.5,
    "oim_temperature": 1 / 30,
    "box_beta": 1.0,
    "box_norm": True,
    "confidence_weighted": True,
} | TORCHVISION
"""NAE's program with the arguments of its README, which SeqNet's program repeats."""

NAE = NAE_RUN | {"box_weight": 10.0, "background_iou": 0.1, "bias_decay": False}
SEQNET = NAE_RUN | {
    "bias_decay": True,
    "box_weight": 1.0,
    "proposal_box_weight": 10.0,
    "first_nms_iou": 0.4,
    "nms_iou": 0.5,
}

TRIDENT = {
    # the paper
    "backbone": "resnet50",
    "weights": "imagenet-v1",
    "roi_size": (24, 8),
    "embedding_dim": 256,
    "identity_temperature": 1 / 30,
    "binary_temperature": 2.0,
    "part_temperature": 1 / 10,
    "identity_weight": 1.0,
    "binary_weight": 1.0,
    "part_weight": 1.0,
    "unlabelled_weight": 0.1,
    "adaptive": True,
    "queue_background": True,
    "confidence_weighted": True,
    "table_momentum": 0.5,
    "images_per_iteration": 4,
    "accumulate": 1,
    "optimizer": "sgd",
    "lr": 0.003,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "bias_decay": True,  # "all trainable parameters"
    "schedule": "step",
    "decay_factor": 0.1,
    # NAE's program, and CUCPS of the same authors
    "norm": "batch",
    "frozen_stages": 2,
    "min_size": 900,
    "max_size": 1500,
    "clip_norm": 10.0,
    "flip": 0.5,
    "background_iou": 0.1,
    "box_weight": 10.0,
    "box_beta": 1.0,
    "score_threshold": 0.5,
    "roi_aligned": False,
    "parts": 4,
    "shallow_foreground": True,
    "precision": "float32",
} | {key: value for key, value in TORCHVISION.items() if key != "roi_size"}
TRIDENT_PARAMETERS = (
    8_543_296  # conv1 to conv4
    + 14_964_736  # conv5
    + 1024 * 1024 * 9 + 1024 + 15 * 1025 + 60 * 1025  # proposals: 15 anchors
    + 2 * 1025 + 2 * 2049  # foreground classifiers, with biases that stay 0
    + 4 * 2049  # box regressor
    + 128 * 1025 + 128 * 2049  # encoders
    + 5 * 2049  # part classifier
)  # fmt: skip

SEQUENTIAL = {
    # the paper
    "backbone": "resnet50",
    "weights": "coco",
    "min_size": 640,
    "max_size": 640,
    "stretch": True,
    "images_per_iteration": 10,
    "detection_optimizer": "sgd",
    "momentum": 0.9,
    "detection_lr": 1e-3,
    "detection_schedule": "linear-cosine",
    "batch_ids": 32,
    "batch_shots": 4,
    "optimizer": "adam",
    "lr": 1e-4,
    "schedule": "linear-cosine",
    "flip": 0.0,
    "feature_views": 1,
    "region_pooling": "max",
    # RetinaNet
    "pyramid_channels": 256,
    "head_depth": 4,
    "anchor_sizes": (32, 64, 128, 256, 512),
    "anchor_octaves": 3,
    "aspect_ratios": (0.5, 1.0, 2.0),
    "fg_iou_threshold": 0.5,
    "bg_iou_threshold": 0.4,
    "focal_alpha": 0.25,
    "focal_gamma": 2.0,
    "detection_weight_decay": 1e-4,
    "score_threshold": 0.05,
    "nms_iou": 0.5,
    "topk_candidates": 1000,
    # TensorFlow's triplet_semihard_loss
    "semi_hard_margin": 1.0,
}
RETINANET = (
    34_014_999  # torchvision's with 91 classes, without frozen batch normalisation
    - 90 * 9 * (256 * 9 + 1)  # of which people stay
)
C3, C4, C5 = 1_219_584, 7_098_368, 14_964_736  # with batch normalisation

PY_FASTER_RCNN = {
    "min_size": 600,
    "max_size": 1000,
    "anchor_sizes": (128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "rpn_pre_nms_top_n_train": 12000,
    "rpn_post_nms_top_n_test": 300,
    "rpn_batch_size_per_image": 256,
    "roi_pooling": "max",
    "rois_per_image": 128,
    "roi_positive_fraction": 0.25,
    "dropout": 0.5,
    "box_beta": 1.0,
    "score_threshold": 0.05,
    "nms_iou": 0.3,
    "max_detections": 100,
    "flip": 0.5,
    "clip_norm": 0.0,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "bias_lr_factor": 2.0,
    "bias_decay": True,
}
"""The platform of I-Net and DC-I-Net, where their paper is silent."""

INET = PY_FASTER_RCNN | {
    "precision": "float32",
    "backbone": "vgg16",
    "weights": "imagenet-v1",
    "frozen_stages": 10,  # the first two stacks: four convolutions with ReLU, two poolings
    "sampler": "pairs",
    "pictures_per_identity": 2,
    "images_per_iteration": 2,
    "accumulate": 1,
    "rpn_post_nms_top_n_train": 128,
    "sample_true_boxes": False,
    "roi_size": (7, 7),
    "embedding_dim": 256,
    "pairing_loss": "olp",
    "identity_loss": "hep",
    "same_picture_pairs": False,
    "alpha": 1.0,
    "beta": 1.0,
    "dictionary_size": 40 * 128,
    "olp_scale": 1.0,
    "hep_scale": 1.0,
    "priority_classes": 100,
    "center_momentum": 0.5,
    "center_scale": 10.0,
    "optimizer": "sgd",
    "lr": 0.001,
    "schedule": "step",
    "decay_at": (40000,),
    "decay_factor": 0.1,
    "iterations": 70000,
    "warmup": 0,
    "crop_iterations": 0,
}
DCINET = INET | {
    "identity_loss": "c2hep",
    "reid_roi_size": (14, 7),
    "embedding_grid": (14, 7),
    "hidden": 4096,
    "reid_gradient": "all",
}
DCINET_RESNET50 = DCINET | {
    "dropout": 0.0,  # there is no fc6
    "backbone": "resnet50",
    "norm": "frozen",
    "frozen_stages": 5,  # conv1, bn1, relu, maxpool, conv2_x
    "roi_size": (14, 14),
    "embedding_grid": (1, 1),
    "hidden": 0,
}
VGG16_DETECTOR = (
    14_714_688  # conv1_1 to conv5_3
    + 512 * 512 * 9 + 512 + 9 * 513 + 36 * 513  # proposals: nine anchors
    + 4096 * (512 * 49 + 1) + 4096 * 4097  # fc6, fc7
    + 2 * 4097 + 4 * 4097  # person or not, box
)  # fmt: skip
INET_PARAMETERS = VGG16_DETECTOR + 256 * 4097  # and HEP's classes
DCINET_PARAMETERS = VGG16_DETECTOR + 4096 * (512 * 98 + 1) + 4096 * 4097 + 256 * 4097
DCINET_RESNET50_PARAMETERS = (
    8_512_704  # conv1 to conv4_x without batch normalisation
    + 2 * 14_942_208  # conv5_x of both tasks
    + 1024 * 1024 * 9 + 1024 + 9 * 1025 + 36 * 1025
    + 2 * 2049 + 4 * 2049
    + 256 * 2049
)  # fmt: skip

OIM = {
    "backbone": "resnet50",
    "norm": "frozen-stem",
    "frozen_stages": 2,
    "min_size": 600,
    "max_size": 1000,
    "anchor_sizes": (128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "rpn_pre_nms_top_n_train": 12000,
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": 300,
    "rpn_batch_size_per_image": 256,
    "roi_pooling": "max",
    "py_faster_rcnn": True,
    "roi_size": (14, 14),
    "rois_per_image": 128,
    "roi_positive_fraction": 0.25,
    "box_beta": 1.0,
    "nms_iou": 0.4,
    "score_threshold": 0.05,
    "embedding_dim": 256,
    "oim_momentum": 0.5,
    "oim_temperature": 0.1,
    "queue_size": 5000,
    "images_per_iteration": 1,
    "accumulate": 2,
    "lr": 0.001,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "bias_decay": False,
    "bias_lr_factor": 2.0,
    "warmup": 0,
    "schedule": "step",
    "decay_at": (40000,),
    "decay_factor": 0.1,
    "iterations": 50000,
    "clip_norm": 0.0,
    "flip": 0.5,
    "confidence_weighted": False,
}
"""OIM's program: its solver, its network and its settings over py-faster-rcnn's."""

XIAO = {k: v for k, v in PY_FASTER_RCNN.items() if k != "box_beta"} | {
    # the paper
    "backbone": "vgg16",
    "weights": "imagenet-v1",
    "roi_pooling": "max",
    "roi_size": (7, 7),
    "embedding_dim": 256,
    "identity_loss": "rss",
    "rss_sampled": 100,
    "images_per_iteration": 1,
    "accumulate": 2,
    "optimizer": "sgd",
    "lr": 0.001,
    "schedule": "step",
    "decay_factor": 0.1,
    "classifier_batch": 256,
    "classifier_size": (224, 224),
    # the authors' code: config.py and train.yml, the prototxts, make_pretrain_dataset.py
    "frozen_stages": 10,
    "dropout": 0.5,
    "bias_lr_factor": 2.0,
    "bias_decay": True,  # of all but fc8's and the classifier's in that code
    "rpn_pre_nms_top_n_train": 12000,
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": 300,
    "rois_per_image": 128,
    "roi_positive_fraction": 0.25,
    "sample_true_boxes": True,
    "score_threshold": 0.05,
    "nms_iou": 0.4,
    "max_detections": 100,
    "eval_score_threshold": 0.5,
    "embed_boxes": False,
    "clip_norm": 0.0,
    "warmup": 0,
    "flip": 0.5,
    "crop_iterations": 0,
    "classifier_iterations": 30000,
    "classifier_lr": 0.001,
    "classifier_background": (160, 64),
    "classifier_margin": 0.0,
}
XIAO_PARAMETERS = VGG16_DETECTOR - 2 * 4097 + 256 * 4097  # and its classes

RDLR = {
    # sections 3.3 and 4.2
    "backbone": "resnet50",
    "weights": "imagenet-v1",
    "detector": "faster_rcnn",
    "reid_loss": "both",
    "keep_box_loss": False,
    "proxy_slots": 2,
    "proxy_margin": 0.5,
    "proxy_negatives": "batch",
    "images_per_iteration": 4,
    "accumulate": 1,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "lr": 5e-5,
    "warmup": 500,
    "schedule": "step",
    "decay_at": (10000,),
    "decay_factor": 0.1,
    "iterations": 40000,
    "clip_norm": 0.0,
    # the first author's program
    "match_iou": 0.0,
    "crop_size": (384, 128),
    "proxy_features": "raw",
    # Detectron
    "bias_decay": False,
    "bias_lr_factor": 2.0,
    "norm": "frozen",
    "frozen_stages": 2,  # conv1 and conv2_x
    "min_size": 800,
    "max_size": 1333,
    "pyramid_channels": 256,
    "anchor_sizes": (32, 64, 128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "rpn_pre_nms_top_n_train": 2000,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": 1000,
    "rpn_batch_size_per_image": 256,
    "roi_size": (7, 7),
    "rois_per_image": 512,
    "roi_positive_fraction": 0.25,
    "detection_hidden": 1024,
    "box_beta": 1.0,
    "box_coder": (10.0, 10.0, 5.0, 5.0),
    "score_threshold": 0.05,
    "nms_iou": 0.5,
    "max_detections": 100,
    "detection_lr": 0.02 * 4 / 16,
    "detection_schedule": "step",
    "detection_weight_decay": 1e-4,
    # reid_baseline, footnote 2
    "reid_last_stride": 1,
    "reid_neck": True,
    "reid_dim": 0,
    "embedding_grid": (1, 1),
    "reid_classifier": "linear",
    "reid_optimizer": "adam",
    "reid_lr": 3.5e-4,
    "reid_weight_decay": 5e-4,
    "reid_batch_ids": 16,
    "reid_batch_shots": 4,
    "reid_margin": 0.3,
    "reid_padding": 10,
    "reid_erase": 0.5,
    "crop_iterations": 0,
}


def reid_schedule(epoch: int) -> dict[str, Any]:
    """Return 120 epochs of some batches, a tenth after 40 and 70, 10 of warm-up."""
    steps = {"reid_iterations": 120 * epoch, "reid_warmup": 10 * epoch}
    return steps | {"reid_decay_at": (40 * epoch, 70 * epoch)}


RESNET50 = 23_508_032  # convolutions and batch normalisation
RDLR_PARAMETERS = (
    RESNET50 - 2 * 26_560  # the detector's, its batch normalisation frozen
    + 256 * (256 + 512 + 1024 + 2048 + 4) + 4 * 256 * (256 * 9 + 1)  # pyramid
    + 256 * (256 * 9 + 1) + 15 * 257  # proposals: three anchors a cell of each level
    + 1024 * (256 * 49 + 1) + 1024 * 1025 + 6 * 1025  # two layers, person or not, box
    + RESNET50 + 2 * 2048  # the re-ID network and its neck
)  # fmt: skip

ROWS = {
    "cuhk-sysu/oim": Published(5532, 33_498_611, OIM),
    "cuhk-sysu/rdlr": Published(5532, RDLR_PARAMETERS + 5532 * 2048, RDLR | reid_schedule(350)),
    "prw/rdlr": Published(482, RDLR_PARAMETERS + 482 * 2048, RDLR | reid_schedule(231)),
    "cuhk-sysu/xiao2016": Published(
        5532,
        XIAO_PARAMETERS + 5533 * 257,
        XIAO | {"iterations": 120000, "decay_at": (100000,)},
    ),
    "prw/xiao2016": Published(
        482,
        XIAO_PARAMETERS + 483 * 257,
        XIAO | {"iterations": 60000, "decay_at": (50000,)},
    ),
    "cuhk-sysu/sequential": Published(
        5532,
        RETINANET + C4 + C5,
        SEQUENTIAL
        | {
            "sharing": "J3",
            # epochs of all identities, in batches of 32
            "iterations": 700 * (5532 // 32),
            "semi_hard_iterations": 350 * (5532 // 32),
        },
        CUHK_SYSU,
        {"detection_iterations": 90},
    ),
    "prw/sequential": Published(
        482,
        RETINANET + C3 + C4 + C5,
        SEQUENTIAL
        | {
            "sharing": "J2",
            "iterations": 700 * (482 // 32),
            "semi_hard_iterations": 350 * (482 // 32),
        },
        PRW,
        {"detection_iterations": 90},
    ),
    "cuhk-sysu/inet": Published(5532, INET_PARAMETERS + 5533 * 257, INET),
    "prw/inet": Published(482, INET_PARAMETERS + 483 * 257, INET),
    "cuhk-sysu/dc-inet": Published(5532, DCINET_PARAMETERS, DCINET),
    "prw/dc-inet": Published(482, DCINET_PARAMETERS, DCINET),
    "cuhk-sysu/dc-inet-resnet50": Published(5532, DCINET_RESNET50_PARAMETERS, DCINET_RESNET50),
    "prw/dc-inet-resnet50": Published(482, DCINET_RESNET50_PARAMETERS, DCINET_RESNET50),
    "cuhk-sysu/trident": Published(
        5532,
        TRIDENT_PARAMETERS,
        TRIDENT | {"queue_size": 5000},
        CUHK_SYSU,
        {"iterations": 14, "decay_at": 8, "warmup": 1},
    ),
    "prw/trident": Published(
        482,
        TRIDENT_PARAMETERS,
        TRIDENT | {"queue_size": 500},
        PRW,
        {"iterations": 10, "decay_at": 8, "warmup": 1},
    ),
    "cuhk-sysu/nae": Published(
        5532,
        33_425_305,
        NAE | {"queue_size": 5000},
        CUHK_SYSU,
        {"iterations": 22, "decay_at": 16, "warmup": 1},
    ),
    "prw/nae": Published(
        482,
        33_425_305,
        NAE | {"queue_size": 500},
        PRW,
        {"iterations": 22, "decay_at": 16, "warmup": 1},
    ),
    "cuhk-sysu/seqnet": Published(
        5532,
        48_402_335,
        SEQNET | {"queue_size": 5000},
        CUHK_SYSU,
        {"iterations": 20, "decay_at": 16, "warmup": 1},
    ),
    "prw/seqnet": Published(
        482,
        48_402_335,
        SEQNET | {"queue_size": 500},
        PRW,
        {"iterations": 18, "decay_at": 16, "warmup": 1},
    ),
}


def shipped(name: str) -> Recipe:
    """Return the recipe of this name."""
    return read_recipe(find(name))


def untrained(recipe: Recipe, num_ids: int) -> PersonSearchModel:
    """Build the network without memory for its weights: only shapes are looked at."""
    settings = dict(recipe.settings)
    if "fc_weights" in settings:
        settings["fc_weights"] = "none"
    with torch.device("meta"):
        return recipe.model_copy(update={"weights": "none", "settings": settings}).build(num_ids)


def count(module: nn.Module) -> int:
    """Return the number of weights."""
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ROWS)
def test_the_networks_have_the_published_number_of_parameters(name: str) -> None:
    row = ROWS[name]
    assert count(untrained(shipped(name), row.num_ids)) == row.parameters


@pytest.mark.parametrize("name", ROWS)
def test_keys_have_the_published_values(name: str) -> None:
    recipe = shipped(name)
    values = recipe.model_dump() | recipe.settings
    ours = {key: values[key] for key in ROWS[name].keys}
    assert ours == ROWS[name].keys


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.epochs])
def test_epochs_are_whole_batches_of_the_training_set(name: str) -> None:
    row, recipe = ROWS[name], shipped(name)
    # The published loaders drop the last batch of an epoch if it is not full.
    epoch = row.pictures // (recipe.images_per_iteration * recipe.accumulate)
    values = recipe.model_dump() | recipe.settings
    for key, epochs in row.epochs.items():
        iterations = values[key][0] if key == "decay_at" else values[key]
        assert iterations / epoch == pytest.approx(epochs, abs=0.01), key


@pytest.mark.parametrize("path", sorted(FOLDER.glob("cuhk-sysu/*")) + sorted(FOLDER.glob("prw/*")))
def test_nothing_is_held_out(path: Any) -> None:
    assert read_recipe(path).validation_fraction == 0.0
