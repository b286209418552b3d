// Command provenance prints an in-toto statement with SLSA's provenance (v1) of the files
// in a folder: their digests, the commit and the modules that they were made from, and what
// made them. It is a function of these: no time and no number of a run is in it.
//
// Usage: provenance -version V -commit ID -builder URI -epoch SECONDS [-modified] FOLDER BINARY…
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const source = "https://github.com/graflow/graflow-sidecar"

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "provenance:", err)
		os.Exit(1)
	}
}

type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     predicate  `json:"predicate"`
}

// resource is in-toto's ResourceDescriptor.
type resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition definition `json:"buildDefinition"`
	RunDetails      struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

type definition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]any    `json:"internalParameters"`
	ResolvedDependencies []resource        `json:"resolvedDependencies"`
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("provenance", flag.ContinueOnError)
	version := flags.String("version", "", "the release")
	commit := flags.String("commit", "", "the commit of the sources")
	builder := flags.String("builder", "", "URI of what ran the build")
	epoch := flags.Int64("epoch", 0, "SOURCE_DATE_EPOCH of the build")
	modified := flags.Bool("modified", false, "the sources differ from the commit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" || *commit == "" || *builder == "" || flags.NArg() < 2 {
		return errors.New("usage: provenance -version V -commit ID -builder URI -epoch SECONDS [-modified] FOLDER BINARY…")
	}
	subjects, err := subjects(flags.Arg(0))
	if err != nil {
		return err
	}
	goVersion, materials, err := materials(flags.Args()[1:])
	if err != nil {
		return err
	}
	s := statement{
		Type:          "https://in-toto.io/Statement/v1",
		Subject:       subjects,
		PredicateType: "https://slsa.dev/provenance/v1",
		Predicate: predicate{BuildDefinition: definition{
			BuildType:          source + "/blob/main/scripts/dist",
			ExternalParameters: map[string]string{"source": "git+" + source, "version": *version},
			InternalParameters: map[string]any{"goVersion": goVersion, "sourceDateEpoch": *epoch, "modified": *modified},
			ResolvedDependencies: append([]resource{{
				URI: "git+" + source + "@" + *commit, Digest: map[string]string{"gitCommit": *commit},
			}}, materials...),
		}},
	}
	s.Predicate.RunDetails.Builder.ID = *builder
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

// subjects gives every file in and below a folder, sorted by path.
func subjects(folder string) ([]resource, error) {
	var found []resource
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		sum := sha256.New()
		if _, err := io.Copy(sum, file); err != nil {
			return err
		}
		found = append(found, resource{
			Name: filepath.ToSlash(name), Digest: map[string]string{"sha256": hex.EncodeToString(sum.Sum(nil))},
		})
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s holds no file", folder)
	}
	return found, err
}

// materials gives the version of Go and the modules that the binaries name, each once.
func materials(binaries []string) (string, []resource, error) {
	goVersion, found := "", map[string]resource{}
	for _, binary := range binaries {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", binary, err)
		}
		if goVersion != "" && goVersion != info.GoVersion {
			return "", nil, fmt.Errorf("%s was built with %s, the others with %s", binary, info.GoVersion, goVersion)
		}
		goVersion = info.GoVersion
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				dep = dep.Replace
			}
			digest, err := dirHash(dep.Sum)
			if err != nil {
				return "", nil, fmt.Errorf("%s: %s: %w", binary, dep.Path, err)
			}
			uri := "pkg:golang/" + dep.Path + "@" + dep.Version
			found[uri] = resource{URI: uri, Digest: digest}
		}
	}
	list := make([]resource, 0, len(found))
	for _, uri := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[uri])
	}
	return goVersion, list, nil
}

// dirHash gives a sum of go.sum as in-toto writes it: "dirHash1" and hexadecimal digits.
func dirHash(sum string) (map[string]string, error) {
	encoded, ok := strings.CutPrefix(sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(raw) != sha256.Size {
		return nil, fmt.Errorf("%q is no sum of go.sum", sum)
	}
	return map[string]string{"dirHash1": hex.EncodeToString(raw)}, nil
}
