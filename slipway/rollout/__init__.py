"""The canary's judge: what is seen of two revisions, what a policy makes of it, and the rollout that follows."""
