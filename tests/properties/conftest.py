"""How the cases are drawn."""

from hypothesis import HealthCheck, settings

# The same cases on every run and every machine: what fails fails for all.
settings.register_profile(
    "the same cases",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("the same cases")
