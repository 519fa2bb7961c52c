"""How many examples: a fair number in every run; deadlines are no business of a noisy machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("laws", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("laws")
