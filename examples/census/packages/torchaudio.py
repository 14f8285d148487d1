"""torchaudio: filters of sound."""

import torch
from census import Known, Layer, Status, drawn
from torch import Tensor
from torchaudio.functional import equalizer_biquad, lfilter, overdrive

WAVE = 0.3 * drawn(2, 12, seed=1)
POLES, ZEROS = torch.tensor([1.7, -0.4, 0.2]).double(), torch.tensor([0.5, 0.3, 0.1]).double()
GAIN, COLOUR = 10.0, 20.0


def filtered() -> Layer:
    """`lfilter`, in wave and coefficients."""
    return Layer(lfilter, [WAVE, POLES, ZEROS])


def equalizer() -> Layer:
    """`equalizer_biquad`, in wave, frequency, gain and Q."""
    numbers = [torch.tensor(number).double() for number in (1500.0, 3.0, 0.7)]
    return Layer(
        lambda wave, *parameters: equalizer_biquad(wave, 8000, *parameters), [WAVE, *numbers]
    )


def overdrive_by_hand(wave: Tensor) -> Tensor:
    loud = wave * 10 ** (GAIN / 20) + COLOUR / 200
    bent = torch.where(loud.abs() > 1, loud.sign() * 2 / 3, loud - loud**3 / 3)
    before, filtered_sample, samples = torch.zeros(2).double(), torch.zeros(2).double(), []
    for sample, dry in zip(bent.T, wave.T, strict=True):
        filtered_sample, before = sample - before + 0.995 * filtered_sample, sample
        samples.append(dry / 2 + 0.75 * filtered_sample)
    return torch.stack(samples, -1).clamp(-1, 1)


def distorted() -> Layer:
    """`overdrive`, in the wave."""
    text = (
        "Documented with the [property Autograd](https://docs.pytorch.org/audio/stable/generated/"
        "torchaudio.functional.overdrive.html); on a CPU its result has no gradient at all."
    )
    layer = lambda wave: overdrive(wave, GAIN, COLOUR)  # noqa: E731
    return Layer(layer, [WAVE], {"tighten": layer}, Known(Status.NEW, text), overdrive_by_hand)


LAYERS = [filtered, equalizer, distorted]
