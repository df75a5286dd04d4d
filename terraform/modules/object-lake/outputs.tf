output "bucket" {
  description = "Name of the bucket, known when it keeps versions."
  value       = aws_s3_bucket_versioning.this.bucket
}

output "bucket_arn" {
  description = "The bucket."
  value       = aws_s3_bucket.this.arn
}

output "lake_uri" {
  description = "Where the lake lies."
  value       = "s3://${aws_s3_bucket.this.bucket}/lake"
}

output "bundles_uri" {
  description = "Where model bundles lie."
  value       = "s3://${aws_s3_bucket.this.bucket}/bundles"
}
