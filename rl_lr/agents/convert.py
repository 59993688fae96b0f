"""A PPO model that somebody trained with stable-baselines3 alone becomes a policy folder."""

from pathlib import Path

from stable_baselines3 import PPO
from torch import nn

from rl_lr.agents.export import linear_layers
from rl_lr.config import ControlConfig
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.signals import NUM_SIGNALS


def convert(model: Path, out: Path, trust: bool) -> Path:
    """Export the actor of a saved model into ``out``; it was trained under the usual control constants.

    Opening such a file can run code that somebody put into it, so nothing is opened without trust.

    Raises:
        PolicyFileError: without trust, or if the file holds no actor that sees our signals.
    """
    if not trust:
        raise PolicyFileError(
            f"{model} is a zip file of stable-baselines3, which can run code when it is opened: pass --trust true "
            f"if you made it or know who did."
        )
    try:
        loaded = PPO.load(model, device="cpu")
    except Exception as error:  # whatever a pickle can do
        raise PolicyFileError(
            f"{model} cannot be opened as a PPO model of stable-baselines3 ({type(error).__name__}: {error}): "
            f"give the file that PPO.save wrote."
        ) from error
    policy = loaded.policy
    if getattr(policy, "squash_output", False):
        raise PolicyFileError(
            f"{model} squashes its actions by tanh (use_sde with squash_output), and a policy here clips them: train it "
            f"without."
        )
    actor = [*policy.mlp_extractor.policy_net, policy.action_net]
    layers = linear_layers(actor)
    activations = {type(one) for one in actor if not isinstance(one, nn.Linear)}
    if layers[0][0].shape[1] != NUM_SIGNALS or layers[-1][0].shape[0] != 1 or activations - {nn.Tanh}:
        raise PolicyFileError(
            f"{model} is no learning-rate policy: its actor has {layers[0][0].shape[1]} inputs and "
            f"{layers[-1][0].shape[0]} outputs, {NUM_SIGNALS} signals, one action and tanh are wanted; train on "
            f"rl_lr/LearningRate-v0 with MlpPolicy."
        )
    provenance = {"agent": "PPO (stable-baselines3), converted", "decisions": loaded.num_timesteps}
    return Policy(layers, ControlConfig(), provenance, str(model)).save(out)
