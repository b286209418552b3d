package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const prefix = "SIDECAR_"

// givenToChildren are names that a sidecar gives to its workers; a sidecar that
// is itself such a worker's child inherits them.
var givenToChildren = []string{
	"SIDECAR_PROCESS_ID", "SIDECAR_TASK_ID", "SIDECAR_SESSION_ID", "SIDECAR_GROUP_ID",
	"SIDECAR_ATTEMPT", "SIDECAR_DEADLINE",
}

// Kubernetes announces each service of the namespace in the environment: one
// called sidecar or sidecar-web gives names that begin like ours.
var (
	linkName = regexp.MustCompile(`^SIDECAR_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	linkPort = regexp.MustCompile(`^SIDECAR_([A-Z0-9_]+_)?PORT=(tcp|udp|sctp)://`)
)

// unknownNames finds variables that begin like ours and are none: a misspelt
// one would otherwise be a setting that silently does nothing.
func unknownNames(environ []string, vs *variables) []error {
	known := slices.Clone(givenToChildren)
	for _, v := range vs.all {
		if strings.HasPrefix(v.env, prefix) {
			known = append(known, v.env)
		}
	}
	var errs []error
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || value == "" || slices.Contains(known, name) ||
			linkName.MatchString(name) || linkPort.MatchString(entry) {
			continue
		}
		if meant := vs.propose(name); meant != nil {
			errs = append(errs, fmt.Errorf("%s is not known; did you mean %s?", name, meant.env))
		} else {
			errs = append(errs, fmt.Errorf("%s is not known; 'sidecar config' lists the settings", name))
		}
	}
	return errs
}
