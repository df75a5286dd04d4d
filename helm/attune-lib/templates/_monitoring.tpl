{{- define "attune-lib.servicemonitor" -}}
{{- $monitor := .root.Values.monitoring.serviceMonitor -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- /* The rules know processes by the job that prometheus.yml gives them: the service's name. */}}
  jobLabel: app.kubernetes.io/component
  selector:
    matchLabels:
      {{- include "attune-lib.selector" . | nindent 6 }}
  namespaceSelector: {matchNames: [{{ .root.Release.Namespace }}]}
  scrapeProtocols: [OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText0.0.4]
  sampleLimit: {{ if eq .name "attune" }}20000{{ else }}6000{{ end }}
  {{- /* Sixteen of prometheus.yml, and eight that the operator adds. */}}
  labelLimit: 24
  endpoints:
    - port: admin
      path: /metrics
      interval: {{ $monitor.interval }}
      scrapeTimeout: 10s
      relabelings:
        - {targetLabel: region, replacement: {{ .root.Values.region | quote }}}
        {{- if eq .name "attune" }}
        - {regex: service, action: labeldrop}
        {{- else }}
        - {targetLabel: service, replacement: {{ .name }}}
        {{- end }}
{{- end -}}
