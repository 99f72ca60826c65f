// Package minato_test holds the rules about the tree itself: who may import
// whom, and that every dependency has its reason.
package minato_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

const module = "minato.example"

// layers says which packages of the module each package may import. A package
// without a row fails: a new package states its place here first.
var layers = map[string][]string{
	"tlp":               {},
	"proto/minato/v1":   {},
	"internal/config":   {},
	"internal/stix":     {"tlp", "proto/minato/v1"},
	"internal/seal":     {"tlp", "proto/minato/v1"},
	"internal/check":    {"tlp", "proto/minato/v1", "internal/rpc"},
	"anonymizer":        {"tlp", "internal/stix", "proto/minato/v1"},
	"internal/ca":       {"tlp", "proto/minato/v1"},
	"internal/journal":  {"tlp", "proto/minato/v1"},
	"internal/rpc":      {"tlp", "proto/minato/v1", "internal/ca", "internal/seal"},
	"hub":               {"tlp", "anonymizer", "proto/minato/v1", "internal/ca", "internal/check", "internal/config", "internal/journal", "internal/rpc", "internal/seal", "internal/stix"},
	"node":              {"tlp", "anonymizer", "proto/minato/v1", "internal/ca", "internal/check", "internal/config", "internal/rpc", "internal/seal", "internal/stix"},
	"internal/mutants":  {},
	"internal/porttest": {"tlp", "anonymizer", "proto/minato/v1", "internal/ca", "internal/check", "internal/config", "internal/journal", "internal/rpc", "internal/seal", "internal/stix", "hub", "node"},
	"cmd/minato":        {"tlp", "anonymizer", "proto/minato/v1", "internal/ca", "internal/check", "internal/config", "internal/journal", "internal/rpc", "internal/seal", "internal/stix", "internal/porttest", "hub", "node"},
	"deploy":            {},
	"docs":              {},
	".":                 {},
}

// pureCore are the files that decide. They take time, keys and randomness as
// arguments, so the same decision can be worked out again at any time.
var pureCore = []string{"tlp/*.go", "anonymizer/*.go", "internal/check/*.go", "hub/plan.go", "hub/onward.go", "hub/policy.go"}

// impure are the packages that a file of the pure core must not import.
var impure = []string{"crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec"}

// source is one Go file of the module, whatever its build tags.
type source struct {
	path    string // from the root, with slashes
	dir     string // package, from the root; "." for the root
	test    bool
	imports []string
}

func (s source) isPure() bool {
	return !s.test && slices.ContainsFunc(pureCore, func(pattern string) bool {
		match, err := path.Match(pattern, s.path)
		return err == nil && match
	})
}

// sources reads the imports of every Go file below the root. It reads the files
// themselves and not the answer of `go list`, since that leaves out the files of
// other systems and other build tags.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == "." {
				return nil
			}
			_, modErr := os.Stat(filepath.Join(name, "go.mod"))
			hidden := strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_")
			if hidden || entry.Name() == "testdata" || modErr == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(name), test: strings.HasSuffix(name, "_test.go")}
		s.dir = path.Dir(s.path)
		for _, spec := range file.Imports {
			s.imports = append(s.imports, strings.Trim(spec.Path.Value, `"`+"`"))
		}
		all = append(all, s)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

// local gives the package of the module that an import path names.
func local(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// standard reports whether an import path belongs to the standard library: its
// first element has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func TestEveryPackageImportsOnlyTheLayersBelowIt(t *testing.T) {
	for _, s := range sources(t) {
		allowed, ok := layers[s.dir]
		require.Truef(t, ok, "%s: package %s has no row in layers; add one that says what it may import", s.path, s.dir)
		if s.test {
			continue // tests may know both sides
		}
		for _, imported := range s.imports {
			if dir, ok := local(imported); ok {
				require.Containsf(t, allowed, dir, "%s imports %s", s.path, imported)
			}
		}
	}
}

func TestHubAndNodeMeetOnlyInTheContract(t *testing.T) {
	require.NotContains(t, layers["hub"], "node")
	require.NotContains(t, layers["node"], "hub")
	for _, dir := range slices.Sorted(maps.Keys(layers)) {
		if slices.Contains(layers[dir], "hub") || slices.Contains(layers[dir], "node") {
			require.Contains(t, []string{"internal/porttest", "cmd/minato"}, dir)
		}
	}
}

func TestTlpNeedsOnlyTheStandardLibrary(t *testing.T) {
	found := false
	for _, s := range sources(t) {
		if s.dir != "tlp" || s.test {
			continue
		}
		found = true
		for _, imported := range s.imports {
			require.Truef(t, standard(imported), "%s imports %s", s.path, imported)
		}
	}
	require.True(t, found, "package tlp is missing")
}

func TestOnlyTheJournalAndOneFileOnEachSideKnowNats(t *testing.T) {
	var onNode []string
	for _, s := range sources(t) {
		if s.test || !slices.ContainsFunc(s.imports, func(i string) bool { return strings.HasPrefix(i, "github.com/nats-io/") }) {
			continue
		}
		switch {
		case s.dir == "internal/journal", s.path == "hub/nats.go":
		case s.path == "node/receive.go", s.path == "node/nats.go":
			onNode = append(onNode, s.path)
		default:
			require.Failf(t, "a file that must not know NATS", "%s imports it", s.path)
		}
	}
	require.LessOrEqual(t, len(onNode), 1, "one file of the node knows NATS, found %v", onNode)
}

func TestOnlySealKnowsCircl(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if strings.HasPrefix(imported, "github.com/cloudflare/circl") {
				require.Equalf(t, "internal/seal", s.dir, "%s imports %s", s.path, imported)
			}
		}
	}
}

func TestThePureCoreTakesEverythingAsArguments(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isPure() {
			continue
		}
		for _, imported := range s.imports {
			require.NotContainsf(t, impure, imported, "%s imports %s", s.path, imported)
		}
		file, err := parser.ParseFile(token.NewFileSet(), s.path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := call.X.(*ast.Ident); ok && pkg.Name == "time" {
					require.NotContainsf(t, []string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker"}, call.Sel.Name,
						"%s reads the clock; take the time as an argument", s.path)
				}
			}
			return true
		})
	}
	for _, pattern := range pureCore {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmptyf(t, names, "no file %s: a file of the pure core was moved, change pureCore with it", pattern)
	}
}

// A row of docs/dependencies.md: | `module` | licence | why | instead |
var dependencyRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")

func TestEveryDependencyHasItsReason(t *testing.T) {
	goMod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	mod, err := modfile.Parse("go.mod", goMod, nil)
	require.NoError(t, err)
	var required []string
	for _, r := range mod.Require {
		if !r.Indirect {
			required = append(required, r.Mod.Path)
		}
	}

	page, err := os.ReadFile("docs/dependencies.md")
	require.NoError(t, err)
	var explained []string
	for _, row := range dependencyRow.FindAllStringSubmatch(string(page), -1) {
		explained = append(explained, row[1])
		for i, column := range []string{"licence", "why", "instead"} {
			require.NotEmptyf(t, strings.TrimSpace(row[i+2]), "docs/dependencies.md: %s has no %s", row[1], column)
		}
	}
	slices.Sort(required)
	slices.Sort(explained)
	require.Equal(t, required, explained, "direct requirements of go.mod and rows of docs/dependencies.md differ")
}
