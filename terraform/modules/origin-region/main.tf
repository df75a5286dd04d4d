data "aws_caller_identity" "current" {}

locals {
  name    = "${var.name}-${var.short}"
  account = data.aws_caller_identity.current.account_id
  clients = { cluster = module.cluster.security_group_id }
}

resource "aws_kms_key" "this" {
  region                  = var.region
  description             = "Everything that ${local.name} keeps"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "kms:*"
        Resource  = "*"
        Principal = { AWS = "arn:aws:iam::${local.account}:root" }
      },
      {
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Principal = { Service = ["logs.${var.region}.amazonaws.com", "delivery.logs.amazonaws.com"] }
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:CreateGrant"]
        Resource  = "*"
        Principal = { AWS = "arn:aws:iam::${local.account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling" }
      },
    ]
  })
}

resource "aws_kms_alias" "this" {
  region        = var.region
  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.this.key_id
}

module "network" {
  source  = "../network"
  name    = local.name
  region  = var.region
  cidr    = var.cidr
  zones   = var.zones
  key_arn = aws_kms_key.this.arn
}

module "cluster" {
  source     = "../cluster"
  name       = local.name
  region     = var.region
  subnet_ids = module.network.private_subnet_ids
  key_arn    = aws_kms_key.this.arn
  access     = var.access
  pools = {
    serving = { instance_types = [var.node_type], min_size = var.sizing.nodes, max_size = 2 * var.sizing.nodes }
  }
}

module "vector" {
  source        = "../vector"
  region        = var.region
  cluster_name  = module.cluster.name
  node_role_arn = module.cluster.node_role_arn
  subnet_ids    = module.network.private_subnet_ids
  key_arn       = aws_kms_key.this.arn
  items         = var.items
}

module "gpu_pool" {
  source         = "../gpu-pool"
  count          = var.gpu == null ? 0 : 1
  region         = var.region
  cluster_name   = module.cluster.name
  node_role_arn  = module.cluster.node_role_arn
  subnet_ids     = module.network.private_subnet_ids
  key_arn        = aws_kms_key.this.arn
  instance_types = var.gpu.instance_types
  min_size       = var.gpu.min_size
  max_size       = var.gpu.max_size
}

module "streaming" {
  source        = "../streaming"
  name          = local.name
  region        = var.region
  vpc_id        = module.network.vpc_id
  subnet_ids    = module.network.data_subnet_ids
  clients       = local.clients
  key_arn       = aws_kms_key.this.arn
  brokers       = var.sizing.brokers
  other_regions = var.other_regions
}

module "cache" {
  source     = "../cache"
  name       = local.name
  region     = var.region
  vpc_id     = module.network.vpc_id
  subnet_ids = module.network.data_subnet_ids
  clients    = local.clients
  key_arn    = aws_kms_key.this.arn
  shards     = var.sizing.cache_shards
}

module "lake" {
  source  = "../object-lake"
  name    = "${local.name}-lake-${local.account}"
  region  = var.region
  key_arn = aws_kms_key.this.arn
}

module "observability" {
  source       = "../observability"
  name         = local.name
  region       = var.region
  vpc_id       = module.network.vpc_id
  subnet_ids   = module.network.data_subnet_ids
  clients      = local.clients
  cluster_name = module.cluster.name
  key_arn      = aws_kms_key.this.arn
  alert_emails = var.alert_emails
}

# The job that exports the lake and publishes bundles.
resource "aws_iam_role" "lake" {
  name = "${local.name}-lake"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Principal = { Service = "pods.eks.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "lake" {
  name = "lake"
  role = aws_iam_role.lake.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], Resource = "${module.lake.bucket_arn}/*" },
      { Effect = "Allow", Action = "s3:ListBucket", Resource = module.lake.bucket_arn },
      { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = aws_kms_key.this.arn },
    ]
  })
}

resource "aws_eks_pod_identity_association" "lake" {
  region          = var.region
  cluster_name    = module.cluster.name
  namespace       = var.namespace
  service_account = "attune-lake"
  role_arn        = aws_iam_role.lake.arn
}
