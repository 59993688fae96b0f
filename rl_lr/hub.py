"""Policies on the Hugging Face Hub: pinned by revision, bounded in size, checked like any other folder.

The Hub's own ``ModelHubMixin`` reads ``config.json`` before we could check it, so only the client's
downloading and uploading are used. Needs the optional extra ``hub``.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from rl_lr.policy import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    MAX_WEIGHT_BYTES,
    WEIGHTS_FILE,
    Policy,
    PolicyFileError,
)

_LIMITS = {CONFIG_FILE: MAX_CONFIG_BYTES, WEIGHTS_FILE: MAX_WEIGHT_BYTES}


def from_pretrained(source: "str | os.PathLike[str]", revision: str | None = None) -> Policy:
    """Load a policy from a folder, or from the Hub at one revision.

    Args:
        source: a folder, or the name of a repository, ``"user/name"``.
        revision: for a repository, the commit, 40 hexadecimal digits: what a branch or a tag means may
            change.

    Returns:
        The policy; its name tells where it is from, and ``policy.sha256`` what it is.

    Raises:
        PolicyFileError: if there is no such policy, the revision is not pinned, a file is too large, or
            whatever :meth:`rl_lr.Policy.load` refuses.
    """
    if os.path.isdir(source):
        return Policy.load(source)
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise PolicyFileError(
            f"{str(source)!r} is no folder, and as a repository on the Hub it needs a revision that cannot change: pass "
            f"revision= the commit, 40 hexadecimal digits, not {revision!r}."
        )
    folder = _download(str(source), revision)
    policy = Policy.load(folder)
    return Policy(policy.layers, policy.control, policy.provenance, f"{source}@{revision}", policy.choices)


def push_to_hub(policy: Policy, repository: str, private: bool = False) -> str:
    """Upload a policy with its card.

    Args:
        policy: what is uploaded.
        repository: ``"user/name"``; made if missing.
        private: whether one that is made is private.

    Returns:
        The commit, to be given as ``revision`` to :func:`from_pretrained`.

    Raises:
        PolicyFileError: if the Hub cannot be reached or refuses it.
    """
    from rl_lr.card import model_card

    hub = _client()
    with tempfile.TemporaryDirectory() as folder:
        policy.save(folder)
        (Path(folder) / "README.md").write_text(model_card(policy))
        try:
            hub.create_repo(repository, private=private, exist_ok=True)
            commit: str = hub.upload_folder(repo_id=repository, folder_path=folder).oid
        except Exception as error:  # of the client, of the network, of the Hub
            raise _failed(repository, error) from error
    return commit


def _download(repository: str, revision: str) -> Path:
    """Both files into the client's cache, after a look at their sizes."""
    hub = _client()
    try:
        for name, limit in _LIMITS.items():
            size = hub.get_hf_file_metadata(hub.hf_hub_url(repository, name, revision=revision)).size
            if size is None or size > limit:
                raise PolicyFileError(
                    f"{name} of {repository} on the Hub has {size} bytes, a policy at most {limit}: check the name."
                )
        paths = [Path(hub.hf_hub_download(repository, name, revision=revision)) for name in _LIMITS]
    except PolicyFileError:
        raise
    except Exception as error:  # of the client, of the network, of the Hub
        raise _failed(repository, error) from error
    return paths[0].parent


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise PolicyFileError(
            "Policies on the Hub need huggingface_hub: pip install 'rl-lr[hub]', or give a folder."
        ) from error
    return huggingface_hub


def _failed(repository: str, error: Exception) -> PolicyFileError:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    return PolicyFileError(
        f"The Hub and {repository!r} ({type(error).__name__}: {reason}): check the name, the revision and the network."
    )
