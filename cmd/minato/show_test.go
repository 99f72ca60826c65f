package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	pb "minato.example/proto/minato/v1"
)

func TestACopyThatItsSourceHasNotSignedSaysSoEverywhere(t *testing.T) {
	for lang, says := range map[language][2]string{
		japanese: {"この写しはハブが作り署名したものです", "発信元は会員名簿にありません"},
		english:  {"The hub has built and signed this copy", "The directory does not list the source"},
	} {
		marks := map[language][2]string{japanese: {"ハブが作った写し", "名簿にない発信元"}, english: {"copy by the hub", "source not in the directory"}}[lang]
		for i, item := range []*pb.InboxItem{
			{Report: "0011", Tlp: "TLP:AMBER", Title: "t", Source: "terminal-b", Named: true, HubSigned: true},
			{Report: "0011", Tlp: "TLP:AMBER", Title: "t", Source: "terminal-b", Named: true, SourceUnlisted: true},
			{Report: "0011", Tlp: "TLP:AMBER", Title: "t", Source: "terminal-b", Named: true},
		} {
			for _, sealed := range []bool{false, true} {
				item.Sealed = sealed
				out := new(bytes.Buffer)
				a := &app{lang: lang, terminal: terminal{out: out, err: new(bytes.Buffer), env: func(string) string { return "" }}}
				require.NoError(t, a.printReport(&pb.GetReportResponse{Report: &pb.Report{ReportId: "0011", Title: "t"}, Received: item}))
				list := a.inboxTitle(item)
				for j := range says {
					if i == j {
						require.Contains(t, out.String(), says[j])
						require.Contains(t, list, marks[j])
					} else {
						require.NotContains(t, out.String(), says[j])
						require.NotContains(t, list, marks[j])
					}
				}
			}
		}
	}
}
