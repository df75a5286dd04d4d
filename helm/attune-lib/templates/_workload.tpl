{{/* A Deployment, or a StatefulSet for what keeps a volume. The number of copies is an autoscaler's where there is one. */}}

{{- define "attune-lib.workload" -}}
apiVersion: apps/v1
kind: {{ if .facts.keeps }}StatefulSet{{ else }}Deployment{{ end }}
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
  {{- with .service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if eq .service.autoscaling.kind "none" }}
  replicas: {{ int .service.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "attune-lib.selector" . | nindent 6 }}
  {{- if .facts.keeps }}
  serviceName: {{ include "attune-lib.name" . }}-headless
  podManagementPolicy: Parallel
  updateStrategy: {type: RollingUpdate}
  {{- else }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  {{- end }}
  template:
    {{- include "attune-lib.pod" . | nindent 4 }}
  {{- if and .facts.keeps (not .service.persistence.existingClaim) }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  volumeClaimTemplates:
    - metadata:
        name: state
        labels:
          {{- include "attune-lib.selector" . | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .service.persistence.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .service.persistence.size }}
  {{- end }}
{{- end -}}

{{- define "attune-lib.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
  {{- with dig "service" "annotations" dict .service }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ dig "service" "type" "ClusterIP" .service }}
  selector:
    {{- include "attune-lib.selector" . | nindent 4 }}
  ports:
    {{- range $port, $number := .service.ports }}
    {{- /* The admin port is for scrapers and operators inside, whatever the type. */}}
    {{- if not (and (eq $port "admin") (ne (dig "service" "type" "ClusterIP" $.service) "ClusterIP")) }}
    - name: {{ $port }}
      port: {{ int $number }}
      targetPort: {{ $port }}
      protocol: TCP
      appProtocol: {{ if eq $port "grpc" }}kubernetes.io/h2c{{ else }}http{{ end }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* The copies' own addresses: a client's connections are spread over them. */}}
{{- define "attune-lib.headless" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "attune-lib.meta" (dict "root" .root "name" .name "suffix" "headless") | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: false
  selector:
    {{- include "attune-lib.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ int .service.ports.grpc }}, targetPort: grpc, protocol: TCP, appProtocol: kubernetes.io/h2c}
{{- end -}}
