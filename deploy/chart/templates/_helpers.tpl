{{/* What several templates share. Numbers are computed as sidecar manifest does. */}}

{{- define "sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "sidecar.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The Deployment that everything is about, and the labels of its pods. */}}
{{- define "sidecar.deployment" -}}
{{- if .Values.deployment.create }}{{ include "sidecar.fullname" . }}{{ else }}{{ .Values.deployment.existing.name }}{{ end }}
{{- end }}

{{- define "sidecar.selectorLabels" -}}
{{- if .Values.deployment.create -}}
app.kubernetes.io/name: {{ include "sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- else -}}
{{- toYaml .Values.deployment.existing.podLabels }}
{{- end }}
{{- end }}

{{- define "sidecar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* metadata: of an object. dict "top" $ "name" … "labels" … "annotations" … */}}
{{- define "sidecar.metadata" -}}
name: {{ .name }}
namespace: {{ .top.Release.Namespace }}
labels:
  {{- $labels := merge (dict) (default (dict) .labels) (include "sidecar.labels" .top | fromYaml) }}
  {{- toYaml $labels | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) .top.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sidecar.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "sidecar.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- /* image of dict "image" … "tag" (the default) */}}
{{- define "sidecar.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ default .tag .image.tag }}{{ end }}
{{- end }}

{{- define "sidecar.sidecarImage" -}}
image: {{ include "sidecar.image" (dict "image" .Values.sidecar.image "tag" .Chart.AppVersion) | quote }}
{{- with .Values.sidecar.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{- /* A value as a quoted text in which Kubernetes expands nothing. */}}
{{- define "sidecar.text" -}}
{{- /* A large number of a values file would be 6.7e+07 otherwise. */}}
{{- if and (kindIs "float64" .) (eq (toString .) (toString (float64 (int64 .)))) }}{{ int64 . | quote }}
{{- else }}{{ toString . | replace "$" "$$" | quote }}{{ end }}
{{- end }}

{{- define "sidecar.native" -}}{{ if eq .Values.pattern "native-sidecar" }}true{{ end }}{{- end }}

{{- /* Whether an init container brings the binary. */}}
{{- define "sidecar.installs" -}}{{ if or (include "sidecar.native" .) (not .Values.worker.sidecarPath) }}true{{ end }}{{- end }}

{{- /* Seconds that one process may take to stop, and the pod. */}}
{{- define "sidecar.stop" -}}{{ add (ceil .Values.shutdownTimeoutSeconds | int) 5 }}{{- end }}
{{- define "sidecar.grace" -}}
{{- $need := include "sidecar.stop" . | int }}
{{- if include "sidecar.native" . }}{{ $need = sub (mul 2 $need) 5 | int }}{{ end }}
{{- $said := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $said }}{{ $need }}
{{- else if lt (int $said) $need }}
{{- fail (printf "terminationGracePeriodSeconds is %d, and a stop takes up to %d s: raise it, or lower shutdownTimeoutSeconds (%vs)" (int $said) $need .Values.shutdownTimeoutSeconds) }}
{{- else }}{{ int $said }}{{ end }}
{{- end }}

{{- define "sidecar.startupFailures" -}}
{{- $retries := 3 }}
{{- if hasKey .Values.settings "SIDECAR_START_RETRIES" }}{{ $retries = int .Values.settings.SIDECAR_START_RETRIES }}{{ end }}
{{- div (max 300 (add (mul (add (min $retries 3) 1) (ceil .Values.startTimeoutSeconds | int)) 60)) 2 }}
{{- end }}

{{- define "sidecar.workerResources" -}}
{{- if .Values.worker.resources }}
{{- toYaml .Values.worker.resources }}
{{- else }}
{{- $memory := printf "%dMi" (add 64 (mul 256 (int .Values.concurrency))) -}}
requests: {cpu: 250m, memory: {{ $memory }}}
limits: {memory: {{ $memory }}}
{{- end }}
{{- end }}

{{- /* Secrets: of Redis, and of the token. Empty if there is none. */}}
{{- define "sidecar.redisSecret" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.existingSecret }}{{ else if .Values.redis.password }}{{ include "sidecar.fullname" . }}-redis{{ end }}
{{- end }}
{{- define "sidecar.redisPassword" -}}{{ if and (include "sidecar.redisSecret" .) .Values.redis.passwordKey }}true{{ end }}{{- end }}
{{- define "sidecar.adminSecret" -}}
{{- if .Values.adminToken.existingSecret }}{{ .Values.adminToken.existingSecret }}{{ else if .Values.adminToken.value }}{{ include "sidecar.fullname" . }}-admin{{ end }}
{{- end }}
{{- define "sidecar.tlsFiles" -}}{{ if and .Values.redis.tls.existingSecret (or .Values.redis.tls.ca .Values.redis.tls.clientCert) }}true{{ end }}{{- end }}

{{- /* Where Redis is, as host:port (the first one), and its port. */}}
{{- define "sidecar.redisAddress" -}}
{{- if .Values.redis.addrs }}{{ first .Values.redis.addrs }}
{{- else if .Values.redis.url }}
{{- $host := (urlParse .Values.redis.url).host }}
{{- if regexMatch ":[0-9]+$" $host }}{{ $host }}{{ else if $host }}{{ $host }}:6379{{ end }}
{{- else if contains ":" .Values.redis.host }}[{{ trimAll "[]" .Values.redis.host }}]:{{ int .Values.redis.port }}
{{- else if not (hasPrefix "/" .Values.redis.host) }}{{ .Values.redis.host }}:{{ int .Values.redis.port }}
{{- end }}
{{- end }}

{{- define "sidecar.redisTLS" -}}
{{- if and .Values.redis.url (not .Values.redis.addrs) }}{{ if hasPrefix "rediss:" .Values.redis.url }}true{{ end }}{{ else if .Values.redis.tls.enabled }}true{{ end }}
{{- end }}

{{- define "sidecar.redisDB" -}}
{{- $db := int .Values.redis.db }}
{{- if and .Values.redis.url (not .Values.redis.addrs) }}{{ with trimPrefix "/" (urlParse .Values.redis.url).path }}{{ $db = int . }}{{ end }}{{ end }}
{{- $db }}
{{- end }}

{{- /* The list that records are taken from. */}}
{{- define "sidecar.queue" -}}
{{- get .Values.settings "SIDECAR_QUEUE_KEY" | default (printf "%s:queue" .Values.redis.keyPrefix) }}
{{- end }}

{{- /* The variables that say where Redis is. */}}
{{- define "sidecar.redisEnv" -}}
{{- $r := .Values.redis }}
{{- if $r.addrs }}
- {name: REDIS_ADDRS, value: {{ join "," $r.addrs | quote }}}
{{- with $r.sentinelMaster }}
- {name: REDIS_SENTINEL_MASTER, value: {{ include "sidecar.text" . }}}
{{- end }}
{{- with $r.sentinelUsername }}
- {name: REDIS_SENTINEL_USERNAME, value: {{ include "sidecar.text" . }}}
{{- end }}
{{- else if $r.url }}
- {name: REDIS_URL, value: {{ include "sidecar.text" $r.url }}}
{{- else }}
- {name: REDIS_HOST, value: {{ include "sidecar.text" $r.host }}}
{{- if ne (int $r.port) 6379 }}
- {name: REDIS_PORT, value: {{ int $r.port | quote }}}
{{- end }}
{{- end }}
{{- if or $r.addrs (not $r.url) }}
{{- if $r.tls.enabled }}
- {name: REDIS_TLS, value: "true"}
{{- end }}
{{- if int $r.db }}
- {name: REDIS_DB, value: {{ int $r.db | quote }}}
{{- end }}
{{- end }}
{{- if ne $r.keyPrefix "graflow" }}
- {name: REDIS_KEY_PREFIX, value: {{ include "sidecar.text" $r.keyPrefix }}}
{{- end }}
{{- with $r.username }}
- {name: REDIS_USERNAME, value: {{ include "sidecar.text" . }}}
{{- end }}
{{- with $r.tls.serverName }}
- {name: REDIS_TLS_SERVER_NAME, value: {{ include "sidecar.text" . }}}
{{- end }}
{{- if $r.tls.insecure }}
- {name: REDIS_TLS_INSECURE, value: "true"}
{{- end }}
{{- if and (include "sidecar.redisSecret" .) $r.sentinelPasswordKey }}
- name: REDIS_SENTINEL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "sidecar.redisSecret" . }}, key: {{ $r.sentinelPasswordKey }}}}
{{- end }}
{{- if include "sidecar.redisPassword" . }}
# A file and no variable: it is read anew for every connection, so that the
# password can be changed without a restart.
- {name: REDIS_PASSWORD_FILE, value: /run/secrets/redis/password}
{{- end }}
{{- if include "sidecar.tlsFiles" . }}
{{- if $r.tls.ca }}
- {name: REDIS_TLS_CA_FILE, value: /run/secrets/redis-tls/ca.crt}
{{- end }}
{{- if $r.tls.clientCert }}
- {name: REDIS_TLS_CERT_FILE, value: /run/secrets/redis-tls/tls.crt}
- {name: REDIS_TLS_KEY_FILE, value: /run/secrets/redis-tls/tls.key}
{{- end }}
{{- end }}
{{- end }}

{{- /* The sidecar's variables. */}}
{{- define "sidecar.env" -}}
{{- if include "sidecar.native" . -}}
- {name: SIDECAR_WORKER_SOCKET, value: /run/sidecar/worker.sock}
{{ end -}}
# Which pod it was, in logs and listings.
- name: WORKER_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
# All addresses of the pod: the kubelet and Prometheus ask from outside.
- {name: SIDECAR_HTTP_ADDR, value: ":{{ int .Values.http.port }}"}
- {name: MAX_CONCURRENT_TASKS, value: {{ int .Values.concurrency | quote }}}
- {name: SIDECAR_SHUTDOWN_TIMEOUT, value: "{{ .Values.shutdownTimeoutSeconds }}s"}
- {name: SIDECAR_START_TIMEOUT, value: "{{ .Values.startTimeoutSeconds }}s"}
{{- if .Values.worker.graflow }}
- {name: SIDECAR_GRAFLOW, value: "true"}
{{- end }}
{{- include "sidecar.redisEnv" . }}
{{- if include "sidecar.adminSecret" . }}
- {name: SIDECAR_ADMIN_TOKEN_FILE, value: /run/secrets/admin/token}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ include "sidecar.text" $value }}}
{{- end }}
{{- with .Values.sidecar.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sidecar.probes" -}}
ports:
  - {name: http, containerPort: {{ int .Values.http.port }}}
# The sidecar's own health: a restart helps where this fails, and never while
# Redis is away or a task takes long.
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  failureThreshold: 6
# Whether it takes tasks; only a rollout waits by this.
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
# Longer than all tries to start a worker take together: the sidecar then ends by
# itself, and says why.
startupProbe:
  httpGet: {path: /startupz, port: http}
  periodSeconds: 2
  failureThreshold: {{ include "sidecar.startupFailures" . }}
{{- end }}

{{- define "sidecar.secretMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "sidecar.adminSecret" . }}
- {name: admin-token, mountPath: /run/secrets/admin, readOnly: true}
{{- end }}
{{- if include "sidecar.redisPassword" . }}
- {name: redis-password, mountPath: /run/secrets/redis, readOnly: true}
{{- end }}
{{- if include "sidecar.tlsFiles" . }}
- {name: redis-tls, mountPath: /run/secrets/redis-tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "sidecar.secretVolumes" -}}
- {name: tmp, emptyDir: {}}
{{- if include "sidecar.adminSecret" . }}
- name: admin-token
  secret: {secretName: {{ include "sidecar.adminSecret" . }}, defaultMode: 0440, items: [{key: {{ .Values.adminToken.key }}, path: token}]}
{{- end }}
{{- if include "sidecar.redisPassword" . }}
- name: redis-password
  secret: {secretName: {{ include "sidecar.redisSecret" . }}, defaultMode: 0440, items: [{key: {{ .Values.redis.passwordKey }}, path: password}]}
{{- end }}
{{- if include "sidecar.tlsFiles" . }}
- name: redis-tls
  secret: {secretName: {{ .Values.redis.tls.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- /* What no schema can say. */}}
{{- define "sidecar.check" -}}
{{- $v := .Values }}
{{- if and $v.deployment.create $v.worker.graflow $v.worker.command }}
{{- fail "worker.graflow and worker.command exclude each other: set worker.graflow=false for a worker of your own" }}
{{- end }}
{{- if and $v.deployment.create (not $v.worker.graflow) (not $v.worker.command) }}
{{- if or (include "sidecar.native" .) (not (hasKey $v.settings "SIDECAR_WORKERS")) }}
{{- fail "no worker: set worker.command to its words, or worker.graflow=true for Graflow's tasks, or (pattern entrypoint) settings.SIDECAR_WORKERS for several kinds" }}
{{- end }}
{{- end }}
{{- if and (include "sidecar.native" .) $v.worker.sidecarPath }}
{{- fail "worker.sidecarPath is for pattern entrypoint: with native-sidecar an init container brings the binary" }}
{{- end }}
{{- if and (include "sidecar.native" .) (ne (get $v.settings "SIDECAR_MODE" | default "rpc") "rpc") }}
{{- fail (printf "workers in a container of their own speak the worker protocol: settings.SIDECAR_MODE=%s does not go with pattern native-sidecar" $v.settings.SIDECAR_MODE) }}
{{- end }}
{{- if and $v.redis.existingSecret $v.redis.password }}
{{- fail "redis.existingSecret and redis.password exclude each other" }}
{{- end }}
{{- if and $v.redis.password (not $v.redis.passwordKey) }}
{{- fail "redis.password needs redis.passwordKey, the key that it has in the Secret" }}
{{- end }}
{{- if and $v.adminToken.existingSecret $v.adminToken.value }}
{{- fail "adminToken.existingSecret and adminToken.value exclude each other" }}
{{- end }}
{{- if and (or $v.redis.tls.ca $v.redis.tls.clientCert) (not $v.redis.tls.existingSecret) }}
{{- fail "redis.tls.ca and redis.tls.clientCert name files of redis.tls.existingSecret, which is not set" }}
{{- end }}
{{- if and $v.redis.sentinelPasswordKey (not $v.redis.existingSecret) }}
{{- fail "redis.sentinelPasswordKey is a key of redis.existingSecret, which is not set" }}
{{- end }}
{{- if and $v.redis.sentinelMaster (not $v.redis.addrs) }}
{{- fail "redis.sentinelMaster needs redis.addrs, host:port of the sentinels" }}
{{- end }}
{{- if ne $v.autoscaling.type "none" }}
{{- if lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas) }}
{{- fail (printf "autoscaling.minReplicas is %d and maxReplicas %d: it is not more than maxReplicas" (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and (eq $v.autoscaling.type "hpa") (lt (int $v.autoscaling.minReplicas) 1) }}
{{- fail "autoscaling.minReplicas is 0: an HPA has at least 1 replica, and KEDA may have none (autoscaling.type=keda)" }}
{{- end }}
{{- if and (eq $v.autoscaling.type "keda") (not (include "sidecar.redisAddress" .)) }}
{{- fail "KEDA has to reach Redis over the network: give its address in redis.url or redis.host" }}
{{- end }}
{{- end }}
{{- end }}
