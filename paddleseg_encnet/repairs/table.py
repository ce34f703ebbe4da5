"""All repairs of PaddleSeg, in the order in which they are made.

Each repair says its symptom and its cause, and has a probe that provokes the defect and tells whether it is there; a
PaddleSeg without the defect is not touched. Nothing here looks at a version number. `apply()` runs once, at import of
the package; `REPAIRS` lists what there is, `APPLIED` what was needed here.

What must happen before Paddle is imported stands in environment.before_paddle and in segrun/cpu.py. No module of this
room imports Paddle or PaddleSeg at its top, so that the package's import decides when that happens.
"""

from typing import Callable, List, NamedTuple

from paddleseg_encnet.repairs import channels, data, environment, losses, networks, scores, weights


class Repair(NamedTuple):
    needed: Callable[[], bool]      # the probe
    mend: Callable[[], None]

    @property
    def name(self) -> str:
        return self.mend.__name__


REPAIRS: List[Repair] = [
    Repair(losses.train_indexes_scalars, losses.losses_with_a_dimension),
    Repair(losses.cross_entropy_fails, losses.cross_entropy_types),
    Repair(scores.calculate_area_fails, scores.calculate_area_of_scalars),
    Repair(data.unreadable_image_has_no_name, data.one_reader),
    Repair(data.cityscapes_pairs_by_position, data.cityscapes_pairs_by_name),
    Repair(data.ade20k_lists_any_file, data.ade20k_pairs_by_name),
    Repair(data.missing_voc_is_downloaded, data.missing_pascal_data_is_named),
    Repair(data.crop_replaces_the_image, data.crop_by_category_ratio),
    Repair(data.padded_label_has_new_ids, data.padded_labels_keep_their_ids),
    Repair(data.list_with_a_mark_names_no_file, data.lists_are_utf_8),
    Repair(networks.fastfcn_builds_residuals, networks.fastfcn_without_residuals),
    Repair(channels.dataset_refuses_four_channels, channels.images_of_any_channels),
    Repair(channels.padding_fails_for_five_channels, channels.padding_of_many_channels),
    Repair(weights.misfit_is_only_warned_of, weights.pretrained_weights),
    Repair(environment.environment_needs_cudnn, environment.environment_without_cudnn),
    Repair(environment.log_garbles_letters, environment.log_of_any_letters),
]
APPLIED: List[str] = []


def apply() -> None:
    """Mends what is broken, once for each process."""
    for repair in REPAIRS:
        if repair.name not in APPLIED and repair.needed():
            repair.mend()
            APPLIED.append(repair.name)
