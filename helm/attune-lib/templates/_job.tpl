{{/* A job beside the platform that runs a script of files/: {root, name, image, script, env, secret, hook, weight} */}}

{{- define "attune-lib.jobPod" -}}
metadata:
  labels:
    {{- include "attune-lib.labels" . | nindent 4 }}
    {{- if eq .root.Values.mesh.kind "istio" }}
    sidecar.istio.io/inject: "false"
    {{- end }}
  annotations:
    {{- if eq .root.Values.mesh.kind "linkerd" }}
    linkerd.io/inject: disabled
    {{- end }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "attune-lib.podSecurity" (dict) | nindent 4 }}
  containers:
    - name: {{ .name }}
      image: {{ .image }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [sh, /files/{{ .script }}]
      env:
        {{- range $key, $value := .env }}
        - {name: {{ $key }}, value: {{ $value | toString | quote }}}
        {{- end }}
      securityContext:
        {{- include "attune-lib.containerSecurity" . | nindent 8 }}
      resources:
        requests: {cpu: 50m, memory: 64Mi}
        limits: {memory: 512Mi}
      volumeMounts:
        - {name: files, mountPath: /files, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- with .secret }}
        - {name: secret, mountPath: /secret, readOnly: true}
        {{- end }}
  volumes:
    - name: files
      configMap: {name: {{ include "attune-lib.name" . }}}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- with .secret }}
    - name: secret
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
{{- end -}}

{{- define "attune-lib.jobFiles" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-weight: "0"
    helm.sh/hook-delete-policy: before-hook-creation
data:
  {{- range $name, $text := .files }}
  {{ $name }}: |
    {{- $text | trim | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "attune-lib.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "attune-lib.meta" . | nindent 2 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-weight: "1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 300
  template:
    {{- include "attune-lib.jobPod" . | nindent 4 }}
{{- end -}}
