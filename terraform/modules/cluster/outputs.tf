output "name" {
  description = "The cluster's name, once it exists."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "The API server."
  value       = aws_eks_cluster.this.endpoint
}

output "oidc" {
  description = "The identity provider of the service accounts: its ARN, and its issuer without https://."
  value = {
    arn    = aws_iam_openid_connect_provider.this.arn
    issuer = trimprefix(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://")
  }
}
