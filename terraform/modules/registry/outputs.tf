output "urls" {
  description = "Image to its repository's URL, as an environment's kustomization names it under newName."
  value       = { for image, repository in aws_ecr_repository.this : image => repository.repository_url }
}

output "arns" {
  description = "The repositories' ARNs."
  value       = [for repository in aws_ecr_repository.this : repository.arn]
}
