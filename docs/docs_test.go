// Package docs_test holds the pages to what they speak of.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(data)
}

// blocks gives the fenced code of one language, in order.
func blocks(page, language string) []string {
	var found []string
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(page, -1) {
		found = append(found, match[1])
	}
	return found
}

func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../README*.md", "*.md", "decisions/*.md"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, names, pattern)
		all = append(all, names...)
	}
	return all
}

func TestEveryLinkLeadsToAFile(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), match[1]))
			require.NoErrorf(t, err, "%s links to %s", page, match[1])
		}
	}
}

// The Japanese and the English page say the same: the same headings, as many
// rows of tables, and the same commands, apart from the words in quotes.
func TestBothLanguagesShowTheSameCommands(t *testing.T) {
	quoted := regexp.MustCompile(`"[^"]*"`)
	space := regexp.MustCompile(`\s*\\\n\s*`)
	for _, pair := range [][2]string{{"../README.md", "../README.ja.md"}, {"operating.md", "operating.ja.md"}} {
		shape := func(name string) (commands, headings []string, rows int) {
			page := read(t, name)
			for _, block := range blocks(page, "sh") {
				commands = append(commands, quoted.ReplaceAllString(space.ReplaceAllString(block, " "), `""`))
			}
			for line := range strings.Lines(page) {
				if level, _, ok := strings.Cut(line, " "); ok && level != "" && strings.Trim(level, "#") == "" {
					headings = append(headings, level)
				}
				if strings.HasPrefix(line, "|") {
					rows++
				}
			}
			return commands, headings, rows
		}
		commands, headings, rows := shape(pair[0])
		require.NotEmpty(t, commands)
		otherCommands, otherHeadings, otherRows := shape(pair[1])
		require.Equalf(t, commands, otherCommands, "%v", pair)
		require.Equalf(t, headings, otherHeadings, "%v", pair)
		require.Equalf(t, rows, otherRows, "%v", pair)
	}
}

// The files that the path of a report names are there, in that order.
func TestThePathOfAReportNamesItsFiles(t *testing.T) {
	file := regexp.MustCompile(`(?m)^## \d+\. \w+: (\S+)$`)
	named := file.FindAllStringSubmatch(read(t, "report-path.md"), -1)
	require.Len(t, named, 11)
	for _, match := range named {
		_, err := os.Stat(filepath.Join("..", match[1]))
		require.NoErrorf(t, err, "report-path.md names %s", match[1])
	}
}

// The table of tlp.md is the function tlp.Permits, one fact at a time.
func TestTheTlpTableIsWhatTheCodeDoes(t *testing.T) {
	columns := []tlp.Relation{0, tlp.Member, tlp.InCommunity, tlp.Addressed, tlp.ClientOfAddressed, tlp.NamedPerson, tlp.Origin}
	table, _, ok := strings.Cut(strings.SplitAfterN(read(t, "tlp.md"), "## Who may receive", 2)[1], "\n\nA column")
	require.True(t, ok)
	seen := map[tlp.Label]bool{}
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		require.Len(t, cells, len(columns)+1, line)
		label := tlp.Unlabelled
		if name := strings.TrimSpace(cells[0]); name != "no label" {
			var err error
			label, _, err = tlp.Parse(name)
			require.NoError(t, err)
			require.Equal(t, name, label.String())
		}
		seen[label] = true
		for i, relation := range columns {
			cell := strings.Trim(cells[i+1], " *")
			require.Contains(t, []string{"yes", "no"}, cell)
			require.Equalf(t, cell == "yes", tlp.Permits(label, relation), "%s, column %d", line, i+1)
		}
	}
	require.Len(t, seen, 6)
}

func TestTermsListEveryValue(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `([A-Z_0-9]+)` \\| .+ \\|$")
	var listed []string
	for _, match := range row.FindAllStringSubmatch(read(t, "terms.md"), -1) {
		listed = append(listed, match[1])
	}
	var want []string
	for _, enum := range []protoreflect.Enum{
		pb.Role(0), pb.EventType(0), pb.CauseClass(0), pb.CauseType(0), pb.BusinessImpact(0), pb.SpreadRisk(0),
		pb.SystemKind(0), pb.RecoveryState(0), pb.PersonalData(0), pb.Certainty(0), pb.Reaction(0),
		pb.Kind(0), pb.Flow(0), pb.Act(0), pb.Obligation(0),
	} {
		values := enum.Descriptor().Values()
		for i := range values.Len() {
			if value := values.Get(i); value.Number() != 0 {
				want = append(want, string(value.Name()))
			}
		}
	}
	require.Equal(t, want, listed)
}

func TestTheExampleOfTheApiIsOfTheContract(t *testing.T) {
	examples := blocks(read(t, "api.md"), "json")
	messages := []proto.Message{&pb.PublishReportRequest{}, &pb.PublishReportResponse{}}
	require.Len(t, examples, len(messages))
	for i, message := range messages {
		require.NoError(t, protojson.Unmarshal([]byte(examples[i]), message))
	}
	request, response := messages[0].(*pb.PublishReportRequest), messages[1].(*pb.PublishReportResponse)
	require.NotZero(t, request.GetReport().GetTlp())
	require.Equal(t, request.GetReport().GetTitle(), response.GetItem().GetTitle())

	methods := pb.File_minato_v1_node_proto.Services().ByName("NodeService").Methods()
	for i := range methods.Len() {
		require.Contains(t, read(t, "api.md"), string(methods.Get(i).Name()))
	}
}

func TestExitCodesAreTheSameEverywhere(t *testing.T) {
	codes := regexp.MustCompile(`(?m)^\| ([0-6]) \| `)
	for _, page := range []string{"../README.md", "../README.ja.md", "operating.md", "operating.ja.md"} {
		var found []string
		for _, match := range codes.FindAllStringSubmatch(read(t, page), -1) {
			found = append(found, match[1])
		}
		require.Equalf(t, []string{"0", "1", "2", "3", "4", "5", "6"}, found, "%s", page)
	}
}

func TestEveryDecisionIsListed(t *testing.T) {
	names, err := filepath.Glob("decisions/0*.md")
	require.NoError(t, err)
	listed := regexp.MustCompile(`\((\d{4}-[a-z0-9-]+\.md)\)`).FindAllStringSubmatch(read(t, "decisions/README.md"), -1)
	var want []string
	for _, match := range listed {
		want = append(want, "decisions/"+match[1])
	}
	require.Equal(t, want, names)
	require.True(t, slices.IsSorted(names))
}
