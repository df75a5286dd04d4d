resource "aws_iam_role" "copy" {
  name = "${var.name}-copy"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "s3.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "copy" {
  name = "copy"
  role = aws_iam_role.copy.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:GetReplicationConfiguration", "s3:ListBucket"], Resource = var.home.bucket_arn },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"]
        Resource = "${var.home.bucket_arn}/bundles/*"
      },
      {
        Effect   = "Allow"
        Action   = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        Resource = [for copy in var.copies : "${copy.bucket_arn}/bundles/*"]
      },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = var.home.key_arn },
      { Effect = "Allow", Action = ["kms:Encrypt", "kms:GenerateDataKey"], Resource = [for copy in var.copies : copy.key_arn] },
    ]
  })
}

# Models only: events stay in the region that took them.
resource "aws_s3_bucket_replication_configuration" "this" {
  region = var.home.region
  bucket = var.home.bucket
  role   = aws_iam_role.copy.arn

  dynamic "rule" {
    for_each = var.copies
    content {
      id       = "bundles-${rule.key}"
      status   = "Enabled"
      priority = index(keys(var.copies), rule.key)
      filter {
        prefix = "bundles/"
      }
      delete_marker_replication {
        status = "Disabled"
      }
      source_selection_criteria {
        sse_kms_encrypted_objects {
          status = "Enabled"
        }
      }
      destination {
        bucket        = rule.value.bucket_arn
        storage_class = "STANDARD"
        encryption_configuration {
          replica_kms_key_id = rule.value.key_arn
        }
      }
    }
  }
}
