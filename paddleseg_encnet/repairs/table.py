"""All repairs of PaddleSeg, in the order in which they are made.

Each repair says its symptom and its cause, and has a probe that provokes the defect and tells whether it is there; a
PaddleSeg without the defect is not touched. Nothing here looks at a version number. `apply()` runs once, at import of
the package; `REPAIRS` lists what there is, `APPLIED` what was needed here.

What must happen before Paddle is imported stands in environment_repairs.before_paddle and in segrun/cpu.py. No module
of this room imports Paddle or PaddleSeg at its top, so that the package's import decides when that happens.
"""

from typing import Callable, List, NamedTuple

from paddleseg_encnet.repairs import (
    channel_repairs,
    data_repairs,
    environment_repairs,
    loss_repairs,
    network_repairs,
    score_repairs,
    weight_repairs,
)


class Repair(NamedTuple):
    needed: Callable[[], bool]      # the probe
    mend: Callable[[], None]

    @property
    def name(self) -> str:
        return self.mend.__name__


REPAIRS: List[Repair] = [
    Repair(loss_repairs.train_indexes_scalars, loss_repairs.losses_with_a_dimension),
    Repair(loss_repairs.cross_entropy_fails, loss_repairs.cross_entropy_types),
    Repair(loss_repairs.rmi_fails, loss_repairs.rmi_types),
    Repair(loss_repairs.ohem_fails, loss_repairs.ohem_types),
    Repair(loss_repairs.ignored_pixels_have_a_loss, loss_repairs.losses_of_nothing_are_zero),
    Repair(score_repairs.calculate_area_fails, score_repairs.calculate_area_of_scalars),
    Repair(data_repairs.unreadable_image_has_no_name, data_repairs.one_reader),
    Repair(data_repairs.cityscapes_pairs_by_position, data_repairs.cityscapes_pairs_by_name),
    Repair(data_repairs.ade20k_lists_any_file, data_repairs.ade20k_pairs_by_name),
    Repair(data_repairs.missing_voc_is_downloaded, data_repairs.missing_pascal_data_is_named),
    Repair(data_repairs.crop_replaces_the_image, data_repairs.crop_by_category_ratio),
    Repair(data_repairs.padded_label_has_new_ids, data_repairs.padded_labels_keep_their_ids),
    Repair(data_repairs.list_with_a_mark_names_no_file, data_repairs.lists_are_utf_8),
    Repair(network_repairs.fastfcn_builds_residuals, network_repairs.fastfcn_without_residuals),
    Repair(channel_repairs.dataset_refuses_four_channels, channel_repairs.images_of_any_channels),
    Repair(channel_repairs.padding_fails_for_five_channels, channel_repairs.padding_of_many_channels),
    Repair(weight_repairs.misfit_is_only_warned_of, weight_repairs.pretrained_weights),
    Repair(environment_repairs.environment_needs_cudnn, environment_repairs.environment_without_cudnn),
    Repair(environment_repairs.log_garbles_letters, environment_repairs.log_of_any_letters),
]
APPLIED: List[str] = []


def apply() -> None:
    """Mends what is broken, once for each process."""
    for repair in REPAIRS:
        if repair.name not in APPLIED and repair.needed():
            repair.mend()
            APPLIED.append(repair.name)
