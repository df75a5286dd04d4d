locals {
  labels        = { "app.kubernetes.io/part-of" = "attune", "app.kubernetes.io/managed-by" = "terraform" }
  observability = "attune-observability"

  namespaces = {
    (var.namespace)       = "restricted"
    (local.observability) = "baseline"
  }

  services = {
    pages  = { namespace = var.namespace, name = "${var.release}-edge", port = 8080 }
    origin = { namespace = var.namespace, name = "${var.release}-origin", port = 9002 }
    traces = { namespace = local.observability, name = "attune-collector", port = 4317 }
  }

  # The most urgent is placed first when a zone is lost; batch never pushes anything out.
  priorities = {
    attune-serving = { value = 1000000, policy = "PreemptLowerPriority", description = "What answers visitors" }
    attune-batch   = { value = -1000, policy = "Never", description = "Exports and training: they can wait" }
  }

  deployer = [
    { apiGroups = [""], resources = ["configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "pods", "pods/log"], verbs = ["*"] },
    # The release's own records are secrets.
    { apiGroups = [""], resources = ["secrets"], verbs = ["get", "list", "create", "update", "patch", "delete"] },
    { apiGroups = ["apps", "autoscaling", "batch", "policy", "networking.k8s.io"], resources = ["*"], verbs = ["*"] },
    { apiGroups = ["gateway.networking.k8s.io", "monitoring.coreos.com", "keda.sh", "cert-manager.io"], resources = ["*"], verbs = ["*"] },
  ]
  viewer = [
    { apiGroups = [""], resources = ["configmaps", "services", "persistentvolumeclaims", "pods", "pods/log", "events"], verbs = ["get", "list", "watch"] },
    { apiGroups = ["apps", "autoscaling", "batch", "policy", "networking.k8s.io"], resources = ["*"], verbs = ["get", "list", "watch"] },
  ]

  inside = merge(
    {
      quota = {
        apiVersion = "v1"
        kind       = "ResourceQuota"
        metadata   = { name = "attune" }
        spec = { hard = {
          "requests.cpu"            = var.quota.cpu
          "requests.memory"         = var.quota.memory
          "requests.nvidia.com/gpu" = tostring(var.quota.gpus)
          pods                      = tostring(var.quota.pods)
        } }
      }
      limits = {
        apiVersion = "v1"
        kind       = "LimitRange"
        metadata   = { name = "attune" }
        spec = { limits = [{
          type           = "Container"
          defaultRequest = { cpu = "100m", memory = "128Mi" }
          default        = { memory = "512Mi" }
        }] }
      }
      # The chart opens what its services need.
      closed = {
        apiVersion = "networking.k8s.io/v1"
        kind       = "NetworkPolicy"
        metadata   = { name = "closed" }
        spec       = { podSelector = {}, policyTypes = ["Ingress"] }
      }
      lake = {
        apiVersion                   = "v1"
        kind                         = "ServiceAccount"
        metadata                     = { name = "attune-lake" }
        automountServiceAccountToken = false
      }
    },
    { for role, rules in { deployer = local.deployer, viewer = local.viewer } : "role-${role}" => {
      apiVersion                    = "rbac.authorization.k8s.io/v1"
      kind                          = "Role"
      metadata                      = { name = "attune-${role}" }
      rules                         = rules
    } },
    { for role in ["deployer", "viewer"] : "binding-${role}" => {
      apiVersion = "rbac.authorization.k8s.io/v1"
      kind       = "RoleBinding"
      metadata   = { name = "attune-${role}" }
      roleRef    = { apiGroup = "rbac.authorization.k8s.io", kind = "Role", name = "attune-${role}" }
      subjects   = [{ apiGroup = "rbac.authorization.k8s.io", kind = "Group", name = "attune:${role}s" }]
    } },
  )
}

# Conflicts are forced: what somebody changed by hand is put right.
resource "kubectl_manifest" "namespace" {
  for_each          = local.namespaces
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "v1"
    kind       = "Namespace"
    metadata = {
      name = each.key
      labels = merge(local.labels, {
        "pod-security.kubernetes.io/enforce" = each.value
        "pod-security.kubernetes.io/warn"    = "restricted"
      })
    }
  })
}

resource "kubectl_manifest" "priority" {
  for_each          = local.priorities
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion       = "scheduling.k8s.io/v1"
    kind             = "PriorityClass"
    metadata         = { name = each.key, labels = local.labels }
    value            = each.value.value
    preemptionPolicy = each.value.policy
    description      = each.value.description
  })
}

# A volume is made where its pod was placed, and outlives its claim: it may hold the decision log.
resource "kubectl_manifest" "storage" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion           = "storage.k8s.io/v1"
    kind                 = "StorageClass"
    metadata             = { name = "attune", labels = local.labels }
    provisioner          = "ebs.csi.aws.com"
    reclaimPolicy        = "Retain"
    volumeBindingMode    = "WaitForFirstConsumer"
    allowVolumeExpansion = true
    parameters = merge(
      { type = "gp3", encrypted = "true" },
      var.disk_key_arn == null ? {} : { kmsKeyId = var.disk_key_arn },
    )
  })
}

resource "kubectl_manifest" "inside" {
  for_each          = local.inside
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode(merge(each.value, {
    metadata = merge(each.value.metadata, { namespace = var.namespace, labels = local.labels })
  }))
  depends_on = [kubectl_manifest.namespace]
}

# Places only. Whoever holds the values puts them there, under another field manager, and applying again leaves them alone.
resource "kubectl_manifest" "secret" {
  for_each          = var.secrets
  server_side_apply = true
  yaml_body = yamlencode({
    apiVersion = "v1"
    kind       = "Secret"
    type       = "Opaque"
    metadata = {
      name        = each.key
      namespace   = var.namespace
      labels      = local.labels
      annotations = { "attune.io/keys" = join(",", each.value) }
    }
  })
  depends_on = [kubectl_manifest.namespace]
}

resource "kubectl_manifest" "target_group" {
  for_each          = var.target_groups
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "elbv2.k8s.aws/v1beta1"
    kind       = "TargetGroupBinding"
    metadata   = { name = each.key, namespace = local.services[each.key].namespace, labels = local.labels }
    spec = {
      targetGroupARN = each.value
      targetType     = "ip"
      serviceRef     = { name = local.services[each.key].name, port = local.services[each.key].port }
    }
  })
  depends_on = [kubectl_manifest.namespace]
}
