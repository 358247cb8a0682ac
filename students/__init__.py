"""Students: the plain ViTs that teachers are distilled into."""
