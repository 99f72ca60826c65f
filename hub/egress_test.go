package hub

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// gates says, for everything through which content could leave, which files may
// have a hand in it. A use in another file fails: it would be a second way out.
var gates = map[string][]string{
	// What is built: a delivery by the gate alone, the bytes of a part by the
	// download that asks the gate.
	"literal Delivery":             {"gate.go"},
	"literal Relabelling":          {"gate.go"},
	"literal DownloadPartResponse": {"part.go"},
	"literal grant":                {"gate.go"},
	// What is read of stored reports: by the gate; by the decision that makes
	// copies of them (compose, and instruct for those who get one later); submit
	// has what its caller sent; session weighs what the gate has built.
	"GetEnvelope":    {"gate.go", "instruct.go", "session.go", "submit.go"},
	"GetProjections": {"gate.go", "instruct.go"},
	"OpenPart":       {"compose.go", "part.go"},
	"decoded":        {"gate.go", "instruct.go", "lane.go"},
	"recordAt":       {"gate.go", "read.go"},
	// Who decides: a submit and its preview by one function, everything later by
	// one for each.
	"plan":    {"onward.go", "submit.go"},
	"onward":  {"instruct.go"},
	"compose": {"instruct.go", "submit.go"},
	// Who may see: every RPC that takes the id of a report.
	"visible": {"instruct.go", "part.go", "read.go", "submit.go"},
}

func TestContentLeavesThroughTheGateAlone(t *testing.T) {
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := map[string]map[string]bool{}
	use := func(what, file string) {
		if _, watched := gates[what]; watched {
			if found[what] == nil {
				found[what] = map[string]bool{}
			}
			found[what][file] = true
		}
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				use("literal "+typeName(n.Type), name)
			case *ast.CallExpr:
				switch f := n.Fun.(type) {
				case *ast.Ident:
					use(f.Name, name)
					if f.Name == "new" {
						use("literal "+typeName(n.Args[0]), name)
					}
				case *ast.SelectorExpr:
					use(f.Sel.Name, name)
				}
			}
			return true
		})
	}
	for what, allowed := range gates {
		require.Equal(t, allowed, slices.Sorted(maps.Keys(found[what])), "%s: which files may is in gates, with the reason", what)
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
