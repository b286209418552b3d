package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/cli/manifest"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

// What a container has where nothing else is given.
const (
	httpPort = 8000 // probes and metrics

	// Four workers that import on a busy node, whose processor the others have, take far
	// longer than one on a developer's machine.
	podStartTimeout = 2 * time.Minute
)

func manifestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Print Kubernetes objects, a compose file or a systemd unit for this configuration",
		Long: `Prints a file that runs a sidecar with the configuration that it would have here:
the same environment, flags and worker's command as for sidecar run. What is
secret is not printed: the file names the place it comes from.`,
		Example: `  sidecar manifest k8s --graflow --redis-host redis --image registry.example/worker:1
  sidecar manifest keda --redis-host redis --max 50 | kubectl apply -f -
  sidecar manifest values --graflow --redis-host redis > values.yaml
  sidecar manifest systemd -- /opt/worker/run`,
		RunE: func(_ *cobra.Command, args []string) error {
			kinds := strings.Join(manifest.Kinds, ", ")
			if len(args) == 0 {
				return &config.UsageError{Err: fmt.Errorf("no kind of manifest is given: there are %s", kinds)}
			}
			return &config.UsageError{Err: fmt.Errorf("no manifest is called %q: there are %s", args[0], kinds)}
		},
	}
	for _, kind := range manifest.Kinds {
		cmd.AddCommand(manifestKind(kind))
	}
	return cmd
}

// manifestOf says what each kind is.
var manifestOf = map[string]string{
	"k8s":            "a Deployment whose containers have the sidecar as entrypoint",
	"native-sidecar": "a Deployment with the sidecar as a container of its own",
	"hpa":            "a HorizontalPodAutoscaler for either of them",
	"keda":           "a ScaledObject of KEDA for either of them",
	"values":         "values for the Helm chart, which makes the same objects of them",
	"compose":        "a compose file",
	"systemd":        "a template of a systemd unit",
}

func manifestKind(kind string) *cobra.Command {
	loader := config.NewLoader()
	var p manifest.Params
	cmd := &cobra.Command{
		Use:   kind + " [flags] [-- COMMAND [ARG…]]",
		Short: "Print " + manifestOf[kind],
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := printed(loader, kind, args, p)
			if err != nil {
				return err
			}
			_, err = os.Stdout.WriteString(text)
			return err
		},
	}
	loader.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&p.Name, "name", "graflow-worker", "name of the objects")
	cmd.Flags().StringVar(&p.Image, "image", "graflow-worker:latest", "the worker's image")
	cmd.Flags().StringVar(&p.SidecarImage, "sidecar-image", "graflow-sidecar:"+version.Number, "the image of the sidecar alone")
	cmd.Flags().StringVar(&p.SidecarPath, "sidecar-path", "", "where the worker's image (or the machine, for systemd) has the sidecar; with k8s an init container brings it if not said")
	cmd.Flags().IntVar(&p.Min, "min", 2, "replicas, at least")
	cmd.Flags().IntVar(&p.Max, "max", 10, "replicas, at most")
	return cmd
}

// printed is the manifest for the configuration that a loader finds. args are
// the worker's command.
func printed(loader *config.Loader, kind string, args []string, p manifest.Params) (string, error) {
	load := loader.Load
	if kind == "hpa" || kind == "keda" {
		load = loader.LoadIdle
	}
	s, err := load(args)
	if err != nil {
		return "", err
	}
	if p.Min < 0 || p.Max < max(p.Min, 1) || p.Min == 0 && kind != "keda" {
		return "", &config.UsageError{Err: fmt.Errorf("--min is %d and --max %d: replicas are at least 1 (0 with keda), and not more than --max", p.Min, p.Max)}
	}
	c, r := s.App, s.App.Redis
	if p.SidecarPath != "" && !path.IsAbs(p.SidecarPath) {
		return "", &config.UsageError{Err: fmt.Errorf("--sidecar-path is %q: it takes an absolute path, such as /usr/local/bin/sidecar", p.SidecarPath)}
	}
	if p.SidecarPath != "" && kind == "native-sidecar" {
		return "", &config.UsageError{Err: errors.New("--sidecar-path does not go with native-sidecar: an init container brings the binary to the worker's container")}
	}
	if kind == "native-sidecar" && len(c.Worker.Command) == 0 && !c.Worker.Graflow {
		return "", &config.UsageError{Err: errors.New("a worker's container runs one command: give it after --, or --graflow; SIDECAR_WORKERS does not go with native-sidecar")}
	}
	if kind == "native-sidecar" && c.Mode != config.ModeRPC {
		return "", &config.UsageError{Err: fmt.Errorf("workers in a container of their own speak the worker protocol: SIDECAR_MODE=%s does not go with native-sidecar", c.Mode)}
	}
	p.Command, p.Graflow = c.Worker.Command, c.Worker.Graflow
	p.Slots, p.Shutdown, p.Queue = c.Slots, c.ShutdownTimeout, c.Queue()
	p.SentinelSet, p.Cluster, p.TLS, p.DB = r.SentinelMaster, r.Cluster, r.TLS, r.DB
	p.User, p.LocalSocket, p.EmbeddedRedis = r.Username, strings.HasPrefix(r.Host, "/"), r.Embedded
	p.CA, p.ClientCert = r.TLSCAFile != "", r.TLSCertFile != ""
	p.StartTimeout, p.StartRetries = c.Worker.StartTimeout, c.Worker.StartRetries
	if p.HTTPAddr, p.Port, err = containerAddr(loader); err != nil && kind != "systemd" && kind != "hpa" && kind != "keda" {
		return "", err
	}
	given := loader.Given()
	isGiven := func(name string) bool {
		return slices.ContainsFunc(given, func(v config.Variable) bool { return v.Name == name })
	}
	p.FixedPort = isGiven("SIDECAR_HTTP_ADDR")
	if !isGiven("SIDECAR_START_TIMEOUT") {
		p.StartTimeout = podStartTimeout
	}
	if p.Addrs = r.Addrs; len(p.Addrs) == 0 {
		p.Addrs = []string{net.JoinHostPort(strings.Trim(r.Host, "[]"), strconv.Itoa(r.Port))}
	}
	for _, v := range given {
		switch {
		case v.Name == "REDIS_PASSWORD" || v.Name == "REDIS_PASSWORD_FILE":
			p.Password = true
		case v.Name == "SIDECAR_ADMIN_TOKEN" || v.Name == "SIDECAR_ADMIN_TOKEN_FILE":
			p.AdminToken = true
		case strings.HasPrefix(v.Name, "REDIS_TLS_") && strings.HasSuffix(v.Name, "_FILE"), v.Name == "WORKER_ID", v.Name == "SIDECAR_WORKER_SOCKET":
			// Their places there are not those here.
		case v.Name == "REDIS_URL" && v.Secret:
			p.Variables = append(p.Variables, manifest.Variable{Name: v.Name, Value: r.Address()})
			if user := userOf(r.URL); user != "" {
				p.User = user
				p.Variables = append(p.Variables, manifest.Variable{Name: "REDIS_USERNAME", Value: user})
			}
			p.Password = true
		case v.Secret:
			p.Secrets = append(p.Secrets, manifest.Secret{Name: v.Name, Key: strings.ToLower(strings.ReplaceAll(v.Name, "_", "-"))})
		default:
			p.Variables = append(p.Variables, manifest.Variable{Name: v.Name, Value: v.Value})
		}
	}
	text, err := manifest.Write(kind, p)
	if err != nil {
		return "", &config.UsageError{Err: err}
	}
	return text, nil
}

// containerAddr is where the sidecar listens in a container: at the port that is given, and
// on all of its addresses: what asks from outside gets no answer on loopback.
func containerAddr(loader *config.Loader) (addr string, port int, err error) {
	if addr, err = loader.HTTPAddr(); err != nil {
		return "", 0, err
	}
	if addr == "" {
		return "", 0, &config.UsageError{Err: fmt.Errorf("SIDECAR_HTTP_ADDR is off: the probes of a container ask that address; leave it out for :%d", httpPort)}
	}
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, &config.UsageError{Err: err}
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, &config.UsageError{Err: err}
	}
	if port == 0 { // one that is free, of which no probe would know
		port = httpPort
	}
	return net.JoinHostPort("", strconv.Itoa(port)), port, nil
}

// userOf gives the user name of a URL; its password never appears in a manifest.
func userOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.User.Username()
}
