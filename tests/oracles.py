"""The oracles live in the package, where the conformance kit uses them as well."""

from pudle.oracles import *  # noqa: F403
