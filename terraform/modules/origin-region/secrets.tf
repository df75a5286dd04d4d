# Places of the keys that operators put there. Every region's subject key has the same value, or a visitor would be another
# one in each. Terraform neither knows nor keeps values.
resource "aws_secretsmanager_secret" "key" {
  for_each = {
    subject = "Turns user ids into pseudonyms; the same in all regions"
    log     = "Keys the hashes of users in logs and traces"
  }
  region                  = var.region
  name                    = "${local.name}-${each.key}-key"
  description             = each.value
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30
}
