//go:build conformance

package porttest_test

import (
	"bytes"

	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"minato.example/internal/porttest"
	"minato.example/internal/stix"
	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

// data reads a file of the conformance data in place; the run fails without it.
func data(t *testing.T, path ...string) []byte {
	t.Helper()
	root := os.Getenv("MINATO_DATA")
	require.NotEmpty(t, root, "set MINATO_DATA: make conformance DATA=...")
	b, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	require.NoError(t, err)
	return b
}

func TestARealIncidentArrivesByteForByteAtPortAuthorityAndMinistry(t *testing.T) {
	bundle := data(t, "stix", "samples", "port", "incident-a.json")
	p := wholePort(t)
	published := publishBundle(t, p, "terminal-a", bundle, &pb.Report{
		Lane: pb.Lane_LANE_LIVE,
		Tlp:  pb.TlpLabel_TLP_LABEL_AMBER, Title: "ランサムウェア感染", Summary: "TOS サーバーでランサムウェア感染を検知した。",
		Recipients: []*pb.Recipient{{Member: "port-authority"}, {Member: "mlit"}},
	})
	for _, member := range []string{"port-authority", "mlit"} {
		item := arrival(t, p, member, published.GetReport())
		require.Equal(t, bundle, partOf(t, p, member, item), "the bundle at %s", member)
	}
	for _, member := range []string{"terminal-b", "terminal-c", "secretariat"} {
		require.Empty(t, inbox(t, p, member), "%s is not a recipient", member)
	}
	found, err := p.Node("mlit").SearchInbox(t.Context(), &pb.SearchInboxRequest{Query: "198[.]51[.]100[.]23"})
	require.NoError(t, err)
	require.Len(t, found.GetItems(), 1, "an indicator of the bundle finds the report in defanged form")
}

func TestIndicatorsArriveAtEveryPermittedOperator(t *testing.T) {
	bundle := data(t, "stix", "samples", "echap", "stalkerware-a.json")
	p := wholePort(t)
	published := publishBundle(t, p, "terminal-a", bundle, &pb.Report{
		Lane: pb.Lane_LANE_LIVE,
		Tlp:  pb.TlpLabel_TLP_LABEL_GREEN, CommunityId: "operators", Title: "指標の共有", Summary: "公開情報から得た指標を共有する。",
	})
	values := indicatorValues(t, bundle)
	require.Greater(t, len(values), 2000, "the bundle is made of 2,200 rows, some of which repeat")
	for _, member := range []string{"terminal-b", "terminal-c"} {
		item := arrival(t, p, member, published.GetReport())
		got := partOf(t, p, member, item)
		// Among operators a bundle goes without what could name its source, and
		// with every indicator.
		require.Subset(t, indicatorValues(t, got), values, "the indicators at %s", member)
		require.NotContains(t, string(got), `"type":"identity"`)
		for _, value := range values {
			found, err := p.Node(member).SearchInbox(t.Context(), &pb.SearchInboxRequest{Query: value})
			require.NoError(t, err)
			require.Len(t, found.GetItems(), 1, "%s at %s", value, member)
		}
	}
	for _, member := range []string{"port-authority", "mlit", "secretariat"} {
		require.Empty(t, inbox(t, p, member), "%s is outside the community", member)
	}
}

// indicatorValues is one value for each indicator of a bundle, read without
// the code under test.
func indicatorValues(t *testing.T, bundle []byte) (values []string) {
	var b struct {
		Objects []struct{ Type, Pattern string }
	}
	require.NoError(t, json.Unmarshal(bundle, &b))
	for _, o := range b.Objects {
		if o.Type != "indicator" {
			continue
		}
		_, rest, _ := bytes.Cut([]byte(o.Pattern), []byte("= '"))
		value, _, ok := bytes.Cut(rest, []byte("'"))
		require.True(t, ok, o.Pattern)
		values = append(values, string(value))
	}
	summary, err := stix.Scan(bundle)
	require.NoError(t, err)
	require.NotEmpty(t, summary.Observables)
	return values
}

func wholePort(t *testing.T) *porttest.Port {
	t.Helper()
	operator := func(id, name string) porttest.Member {
		return porttest.Member{ID: id, Name: name, Role: pb.Role_ROLE_OPERATOR, Communities: []string{"operators"}, Profile: porttest.Profile(name)}
	}
	return start(t,
		operator("terminal-a", "東ターミナル"), operator("terminal-b", "西ターミナル"), operator("terminal-c", "南ターミナル"),
		porttest.Member{ID: "port-authority", Name: "港湾管理者", Role: pb.Role_ROLE_PORT_AUTHORITY, Profile: porttest.Profile("港湾管理者")},
		porttest.Member{ID: "mlit", Name: "国土交通省", Role: pb.Role_ROLE_MINISTRY, Profile: porttest.Profile("国土交通省"), GRPC: true},
		porttest.Member{ID: "secretariat", Name: "セプター事務局", Role: pb.Role_ROLE_SECRETARIAT, Profile: porttest.Profile("セプター事務局")},
	)
}

func publishBundle(t *testing.T, p *porttest.Port, from string, bundle []byte, r *pb.Report) *pb.OutboxItem {
	t.Helper()
	c, err := node.Dial(p.NodeDir(from))
	require.NoError(t, err)
	defer c.Close()
	part, err := c.AddPart(t.Context(), &pb.Part{
		Name: "bundle.json", MediaType: "application/stix+json;version=2.1", Class: pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE,
	}, bytes.NewReader(bundle))
	require.NoError(t, err)
	r.AttackTechnical = &pb.AttackTechnical{StixBundle: part}
	item, err := c.Publish(t.Context(), r, 30*time.Second)
	require.NoError(t, err)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_ACCEPTED, item.GetState(), "%v", item)
	return item
}

// partOf reads the one part of an item back from a member's node.
func partOf(t *testing.T, p *porttest.Port, member string, item *pb.InboxItem) []byte {
	t.Helper()
	require.Len(t, item.GetParts(), 1)
	stream, err := p.Node(member).GetPart(t.Context(), &pb.GetPartRequest{Report: item.GetReport(), Digest: item.GetParts()[0].GetDigest()})
	require.NoError(t, err)
	var all []byte
	for {
		piece, err := stream.Recv()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, piece.GetData()...)
	}
}
