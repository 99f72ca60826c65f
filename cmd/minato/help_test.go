package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// tree is the tree of commands in a language.
func tree(l language) (*app, *cobra.Command) {
	a := newApp(terminal{in: strings.NewReader(""), out: new(bytes.Buffer), err: new(bytes.Buffer),
		env: func(string) string { return "" }}, []string{"--lang", string(l)})
	return a, a.root()
}

func everyCommand(root *cobra.Command, visit func(*cobra.Command)) {
	visit(root)
	for _, c := range root.Commands() {
		everyCommand(c, visit)
	}
}

func hasJapanese(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return unicode.In(r, unicode.Hiragana, unicode.Katakana, unicode.Han) }) >= 0
}

func TestHelpIsAsReviewed(t *testing.T) {
	for _, l := range []language{japanese, english} {
		a, root := tree(l)
		var all strings.Builder
		everyCommand(root, func(c *cobra.Command) {
			fmt.Fprintf(&all, "$ %s --help\n%s\n", c.CommandPath(), a.helpText(c))
			if c.Flags().Lookup("help-all") != nil {
				fmt.Fprintf(&all, "$ %s --help-all\n%s\n", c.CommandPath(), a.rareText(c))
			}
		})
		golden := filepath.Join("testdata", "help."+string(l)+".txt")
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(golden, []byte(all.String()), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), all.String(), "read the change, then: go test ./cmd/minato -run TestHelpIsAsReviewed -update")
	}
}

func TestEveryHelpFitsAScreenAndSpeaksBothLanguages(t *testing.T) {
	ja, rootJA := tree(japanese)
	en, rootEN := tree(english)
	var pages [2][]string
	everyCommand(rootJA, func(c *cobra.Command) {
		require.True(t, hasJapanese(c.Short), "%s: %s", c.CommandPath(), c.Short)
		require.True(t, c.Long == "" || hasJapanese(c.Long), c.CommandPath())
		pages[0] = append(pages[0], ja.helpText(c), ja.rareText(c))
	})
	everyCommand(rootEN, func(c *cobra.Command) {
		require.NotEmpty(t, c.Short, c.CommandPath())
		page, second := en.helpText(c), en.rareText(c)
		require.False(t, hasJapanese(second), second)
		// Only the content of an example may be Japanese in an English page.
		require.False(t, hasJapanese(strings.Replace(page, indented(c.Example), "", 1)), page)
		pages[1] = append(pages[1], page, second)
	})
	require.Equal(t, len(pages[0]), len(pages[1]))
	for _, page := range append(pages[0], pages[1]...) {
		lines := strings.Split(strings.TrimRight(page, "\n"), "\n")
		require.LessOrEqual(t, len(lines), 40, page)
		for _, line := range lines {
			if !strings.HasPrefix(line, "  minato ") { // examples and usage lines may be as long as they are
				require.LessOrEqual(t, lipgloss.Width(line), 120, line)
			}
		}
	}
}

func indented(example string) string { return "  " + strings.ReplaceAll(example, "\n", "\n  ") }

func TestEveryExampleParses(t *testing.T) {
	words := regexp.MustCompile(`'[^']*'|[^ ]+`)
	_, root := tree(english)
	everyCommand(root, func(c *cobra.Command) {
		require.NotEmpty(t, c.Example, c.CommandPath())
		for example := range strings.SplitSeq(c.Example, "\n") {
			var args []string
			for _, word := range words.FindAllString(example, -1) {
				args = append(args, strings.Trim(word, "'"))
			}
			require.Equal(t, "minato", args[0], example)
			// Parsing leaves its values behind, so every example has a tree.
			_, fresh := tree(english)
			found, rest, err := fresh.Find(args[1:])
			require.NoError(t, err, example)
			require.True(t, found.CommandPath() == c.CommandPath() || strings.HasPrefix(found.CommandPath(), c.CommandPath()+" "), example)
			require.NoError(t, found.ParseFlags(rest), example)
			require.NoError(t, found.ValidateArgs(found.Flags().Args()), example)
		}
	})
}

func TestNoFlagIsLostBetweenThePagesOfHelp(t *testing.T) {
	a, root := tree(english)
	everyCommand(root, func(c *cobra.Command) {
		both := a.helpText(c) + a.rareText(c)
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				row := regexp.MustCompile(`(?m)^  (-\w, )?--` + f.Name + ` `)
				require.Len(t, row.FindAllString(both, -1), 1, "%s --%s", c.CommandPath(), f.Name)
			}
		})
	})
	code, out, errs := typedIn(nil, "", "report", "update", "--help-all", "--lang", "en")
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, "--peer-named")
	require.Empty(t, errs)
}

func TestHelpIsForPeopleAndErrorsSayWhatToType(t *testing.T) {
	code, out, errs := typedIn(nil, "", "report", "--help")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "報告を出します")
	require.Empty(t, errs)

	code, out, _ = typedIn(nil, "", "--lang", "en", "help", "hub", "invite")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "one-time token")

	code, out, errs = typedIn(map[string]string{"MINATO_LANG": "en"}, "", "reprot")
	require.Equal(t, exitUsage, code)
	require.Empty(t, out)
	require.Equal(t, "✗ minato has no command \"reprot\"\n  → did you mean: minato report\n", errs)

	code, _, errs = typedIn(nil, "", "--lang", "fr", "version")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--lang")
}
