"""Statistics for training and evaluation: intervals, agreement, calibration, win rates.

Pure functions on numbers and texts; no torch.
"""

from alignloop.stats.abilities import abilities
from alignloop.stats.agreement import (
    DawidSkene,
    accuracy_ceiling,
    agreement_per_label,
    bennett_s,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_interval,
    raw_agreement,
    scott_pi,
)
from alignloop.stats.bias import (
    PositionBias,
    bbq_ambiguous,
    bbq_disambiguated,
    cbbq_score,
    common_tokens,
    crows_pairs,
    position_bias,
    pseudo_log_likelihood,
)
from alignloop.stats.calibration import (
    ReliabilityBin,
    brier,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability_bins,
    spearman_length,
    temperature_note,
    temperature_range,
)
from alignloop.stats.intervals import (
    Estimate,
    Interval,
    cluster_bootstrap,
    cluster_share,
    paired_sign_test,
    share_estimate,
    share_interval,
    wilson,
)
from alignloop.stats.overoptimisation import (
    GaoFit,
    best_of_n_kl,
    bon_curve,
    fit_bon_curve,
    fit_rl_curve,
    rl_curve,
)
from alignloop.stats.pace import finish_window
from alignloop.stats.ranking import bradley_terry, choices_of, plackett_luce
from alignloop.stats.refusals import looks_like_refusal
from alignloop.stats.textstats import (
    corpus_distinct_n,
    distinct_n,
    repetition,
    words,
)
from alignloop.stats.winrate import length_controlled_win_rate, win_rate

__all__ = [
    "DawidSkene",
    "Estimate",
    "GaoFit",
    "Interval",
    "PositionBias",
    "ReliabilityBin",
    "abilities",
    "accuracy_ceiling",
    "agreement_per_label",
    "bbq_ambiguous",
    "bbq_disambiguated",
    "bennett_s",
    "best_of_n_kl",
    "bon_curve",
    "bradley_terry",
    "brier",
    "cbbq_score",
    "choices_of",
    "cluster_bootstrap",
    "cluster_share",
    "cohen_kappa",
    "common_tokens",
    "corpus_distinct_n",
    "crows_pairs",
    "dawid_skene",
    "distinct_n",
    "expected_calibration_error",
    "finish_window",
    "fit_bon_curve",
    "fit_rl_curve",
    "fit_temperature",
    "fleiss_kappa",
    "krippendorff_alpha",
    "krippendorff_interval",
    "length_controlled_win_rate",
    "log_loss",
    "looks_like_refusal",
    "paired_sign_test",
    "plackett_luce",
    "position_bias",
    "pseudo_log_likelihood",
    "raw_agreement",
    "reliability_bins",
    "repetition",
    "rl_curve",
    "scott_pi",
    "share_estimate",
    "share_interval",
    "spearman_length",
    "temperature_note",
    "temperature_range",
    "wilson",
    "win_rate",
    "words",
]
