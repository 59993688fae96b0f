"""An actor that sees the signals and a critic that sees more, for stable-baselines3's PPO."""

from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from rl_lr.signals import NUM_SIGNALS


class PrivilegedCriticPolicy(ActorCriticPolicy):
    """SB3's actor and critic; the actor sees the first ``NUM_SIGNALS`` columns of what the critic sees."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Extractor(self.features_dim, self.net_arch, self.activation_fn, self.device)


class _Extractor(MlpExtractor):
    """SB3's two networks, the actor's with a narrower first layer."""

    def __init__(self, *sizes: object) -> None:
        super().__init__(*sizes)  # type: ignore[arg-type]
        first = self.policy_net[0]
        assert isinstance(first, nn.Linear)
        self.policy_net[0] = nn.Linear(NUM_SIGNALS, first.out_features, device=first.weight.device)

    def forward_actor(self, features: Tensor) -> Tensor:
        """What the mean of the actions is read from."""
        return super().forward_actor(features[:, :NUM_SIGNALS])
