output "image_urls" {
  description = "Image to what an environment's kustomization names under newName."
  value       = module.registry.urls
}

output "ci_role_arn" {
  description = "The role that the image workflow assumes (aws-actions/configure-aws-credentials, role-to-assume)."
  value       = module.identity.role_arns["ci"]
}
