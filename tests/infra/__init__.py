"""What infra/template.yaml promises, held by reading it. Each rule is shown to bite by a change that breaks it."""
