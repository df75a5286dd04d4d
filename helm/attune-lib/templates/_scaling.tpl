{{/* Disruption and autoscaling. */}}

{{- define "attune-lib.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
spec:
  maxUnavailable: {{ int .service.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "attune-lib.selector" . | nindent 6 }}
{{- end -}}

{{- define "attune-lib.target" -}}
apiVersion: apps/v1
kind: {{ if .facts.keeps }}StatefulSet{{ else }}Deployment{{ end }}
name: {{ include "attune-lib.name" . }}
{{- end -}}

{{- define "attune-lib.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
spec:
  scaleTargetRef:
    {{- include "attune-lib.target" . | nindent 4 }}
  minReplicas: {{ int .service.autoscaling.minReplicas }}
  maxReplicas: {{ int .service.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ int .service.autoscaling.cpu }}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{- define "attune-lib.keda" -}}
{{- $values := .root.Values -}}
{{- $scaling := .service.autoscaling -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
spec:
  scaleTargetRef:
    {{- include "attune-lib.target" . | nindent 4 }}
  minReplicaCount: {{ int $scaling.minReplicas }}
  maxReplicaCount: {{ int $scaling.maxReplicas }}
  pollingInterval: 15
  cooldownPeriod: 300
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          {{- /* Each change of the group moves partitions. */}}
          stabilizationWindowSeconds: {{ if eq .name "embedder" }}600{{ else }}300{{ end }}
          policies:
            - {type: Pods, value: 1, periodSeconds: 60}
  {{- if eq .name "embedder" }}
  fallback:
    failureThreshold: 4
    replicas: {{ int $scaling.fallbackReplicas }}
  triggers:
    - type: kafka
      {{- if or $values.kafka.tls.existingSecret $values.kafka.sasl.username }}
      authenticationRef: {name: {{ include "attune-lib.name" . }}}
      {{- end }}
      metadata:
        bootstrapServers: {{ join "," $values.kafka.brokers | quote }}
        consumerGroup: {{ printf "%suser-events" $values.kafka.topicPrefix | quote }}
        topic: {{ printf "%suser-events" $values.kafka.topicPrefix | quote }}
        lagThreshold: {{ $scaling.lagThreshold | int | toString | quote }}
        limitToPartitionsWithLag: "true"
        {{- if $values.kafka.tls.enabled }}
        tls: enable
        {{- end }}
        {{- with $values.kafka.sasl }}
        {{- if .username }}
        sasl: {{ get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") .mechanism }}
        {{- end }}
        {{- end }}
  {{- else }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $values.monitoring.prometheus | quote }}
        query: {{ printf "sum(ranking_concurrent_requests{namespace=%q, job=\"ranking\"})" .root.Release.Namespace | quote }}
        threshold: {{ $scaling.concurrentCalls | int | toString | quote }}
  {{- end }}
{{- end -}}

{{/* What KEDA shows the brokers; a username is no secret, and stands in a secret all the same because KEDA reads it there. */}}
{{- define "attune-lib.kedaAuth" -}}
{{- $kafka := .root.Values.kafka -}}
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
spec:
  secretTargetRef:
    {{- if $kafka.sasl.username }}
    - {parameter: username, name: {{ $kafka.sasl.existingSecret }}, key: username}
    - {parameter: password, name: {{ $kafka.sasl.existingSecret }}, key: {{ $kafka.sasl.key }}}
    {{- end }}
    {{- if $kafka.tls.existingSecret }}
    - {parameter: ca, name: {{ $kafka.tls.existingSecret }}, key: ca.crt}
    {{- if $kafka.tls.clientCertificate }}
    - {parameter: cert, name: {{ $kafka.tls.existingSecret }}, key: tls.crt}
    - {parameter: key, name: {{ $kafka.tls.existingSecret }}, key: tls.key}
    {{- end }}
    {{- end }}
{{- end -}}
