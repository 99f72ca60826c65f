package anonymizer_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/anonymizer"
	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
)

// canary is the text that full puts into a field.
func canary(path string) string { return "<" + path + ">" }

// full is a report in which every field is set, every text to its own path in
// brackets. Each list has one entry, and the attachments one of each class.
func full() *pb.Report {
	r := &pb.Report{}
	fill(r.ProtoReflect(), "")
	r.Kind, r.Tlp, r.Stage = pb.Kind_KIND_INCIDENT, pb.TlpLabel_TLP_LABEL_AMBER, pb.Stage_STAGE_PRELIMINARY
	r.AttackTechnical.Ransom.Note = "<ransom.note>" // its path looks like an id
	r.Consents = nil
	r.Attachments = nil
	for class := range pb.DisclosureClass_name {
		r.Attachments = append(r.Attachments, &pb.Part{
			Digest: digest(fmt.Sprint("attachment ", class)), Size: 1, MediaType: canary("attachments.media_type"),
			Name: canary("attachments.name"), Class: pb.DisclosureClass(class), Sanitised: true,
		})
	}
	slices.SortFunc(r.Attachments, func(a, b *pb.Part) int { return int(a.GetClass() - b.GetClass()) })
	r.AttackTechnical.StixBundle.Digest, r.AttackTechnical.StixBundle.Size = digest(bundle), uint64(len(bundle))
	return r
}

func digest(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// an instant that is not the start of anything.
var instant = time.Date(2026, 11, 25, 3, 4, 5, 6, time.UTC)

func fill(m protoreflect.Message, path string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := path + string(f.Name())
		var v protoreflect.Value
		switch f.Kind() {
		case protoreflect.StringKind:
			v = protoreflect.ValueOfString(canary(name))
		case protoreflect.BytesKind:
			v = protoreflect.ValueOfBytes(digest(name))
		case protoreflect.BoolKind:
			v = protoreflect.ValueOfBool(true)
		case protoreflect.EnumKind:
			v = protoreflect.ValueOfEnum(1)
		case protoreflect.Uint32Kind:
			v = protoreflect.ValueOfUint32(7)
		case protoreflect.Uint64Kind:
			v = protoreflect.ValueOfUint64(7)
		case protoreflect.MessageKind:
			var inner protoreflect.Message
			if f.IsList() {
				inner = m.NewField(f).List().NewElement().Message()
			} else {
				inner = m.NewField(f).Message()
			}
			if f.Message().FullName() == "google.protobuf.Timestamp" {
				inner = timestamppb.New(instant).ProtoReflect()
			} else {
				fill(inner, name+".")
			}
			v = protoreflect.ValueOfMessage(inner)
		default:
			panic("fill does not know " + f.Kind().String())
		}
		if f.IsList() {
			m.Mutable(f).List().Append(v)
		} else {
			m.Set(f, v)
		}
	}
}

// bundle holds an indicator, a vulnerability and a victim.
const bundle = `{"type":"bundle","id":"bundle--00000000-0000-4000-8000-000000000001","objects":[
{"type":"indicator","spec_version":"2.1","id":"indicator--00000000-0000-4000-8000-000000000002","created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z","created_by_ref":"identity--00000000-0000-4000-8000-000000000003","name":"<stix.indicator>","pattern":"[ipv4-addr:value = '198.51.100.23']","pattern_type":"stix","valid_from":"2026-11-25T03:04:05Z"},
{"type":"vulnerability","spec_version":"2.1","id":"vulnerability--00000000-0000-4000-8000-000000000004","created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z","name":"<stix.vulnerability>"},
{"type":"identity","spec_version":"2.1","id":"identity--00000000-0000-4000-8000-000000000003","created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z","name":"<stix.identity>"}]}`

func project(t require.TestingT, r *pb.Report, flow pb.Flow) *anonymizer.Projected {
	var b []byte
	if r.GetAttackTechnical().GetStixBundle() != nil {
		b = []byte(bundle)
	}
	p, err := anonymizer.Project(r, flow, b)
	require.NoError(t, err)
	return p
}

// texts are the canaries in the bytes of a copy and its bundle, and the classes
// of its attachments.
func texts(t *testing.T, p *anonymizer.Projected) (all []string) {
	t.Helper()
	b, err := proto.Marshal(p.Report)
	require.NoError(t, err)
	for _, in := range [][]byte{b, p.Bundle} {
		for piece := range bytes.SplitSeq(in, []byte("<")) {
			if name, _, ok := bytes.Cut(piece, []byte(">")); ok && !slices.Contains(all, string(name)) {
				all = append(all, string(name))
			}
		}
	}
	for _, a := range p.Report.GetAttachments() {
		all = append(all, "attached "+strings.TrimPrefix(a.GetClass().String(), "DISCLOSURE_CLASS_"))
	}
	slices.Sort(all)
	return all
}

// leaves are the fields that are set, lists without index.
func leaves(m protoreflect.Message, path string, all map[string]bool) map[string]bool {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := path + string(f.Name())
		all[name] = true
		switch {
		case f.Message() == nil || f.Message().FullName() == "google.protobuf.Timestamp":
		case f.IsList():
			for i := range v.List().Len() {
				leaves(v.List().Get(i).Message(), name+".", all)
			}
		default:
			leaves(v.Message(), name+".", all)
		}
		return true
	})
	return all
}

func set(r *pb.Report) map[string]bool { return leaves(r.ProtoReflect(), "", map[string]bool{}) }

// The table of what to share, report and publish, information by information:
// ○ goes, △ goes in part or coarser, — does not go. Where the scheme says "△
// depends" the column says what it depends on here:
//
//   - 脆弱性悪用の情報 reaches peers when the source consents that experts have
//     it (see TestVulnerabilitiesReachPeersAfterAdvice), since it waits for the
//     advice of an expert body;
//   - experts are told of victim, damage and contacts under a non-disclosure
//     agreement only;
//   - of 被害内容 the anonymous report has the band, which is the state of the
//     business; 業種／規模 has no field;
//   - 攻撃技術情報 is not published unless somebody writes a notice for it.
const sharing = `
information           | fields                                                                                                    | peers | expert | under NDA | anonymous | 公表
malware, hashes       | attack_technical.malware attack_technical.indicators attack_technical.stix_bundle                        | ○○△   | ○○△    | ○○△       | ○○△       | ———
不正通信先            | attack_technical.indicators.value attack_technical.ddos                                                  | ○○    | ○○     | ○○        | ○○        | ——
TTP, tools, other     | attack_technical.techniques attack_technical.tools attack_technical.text                                 | ○○○   | ○○○    | ○○○       | ○○○       | ———
ransom                | attack_technical.ransom.note attack_technical.ransom.extension attack_technical.ransom.family attack_technical.ransom.intrusion_path | △○○○ | △○○○ | ○○○○ | △○○○ | ————
脆弱性悪用の情報      | attack_technical.vulnerabilities                                                                         | —     | ○      | ○         | ○         | ○
攻撃対象システム      | affected_systems.kind affected_systems.product affected_systems.version                                   | ○——   | ○○○    | ○○○       | ○——       | ○○○
攻撃のタイムライン    | attack_timeline.text attack_timeline.moment.time occurred.time recognised.time                           | ○△△△  | ○○○○   | ○○○○      | ○△△△      | ○○○○
被害組織名            | reporter.organisation place.terminal                                                                     | ——    | ——     | ○○        | ——        | ○○
被害内容              | title summary impact.business impact.users_effect personal_data                                           | ————— | —————  | ○○○○○     | ——○——     | ○○○○○
対応のタイムライン    | response_timeline.text response others_response recovery.expected                                        | ————  | ————   | ○○○○      | ————      | ○○○○
contacts              | reporter.contacts reporter.unit                                                                          | ——    | ——     | ○○        | ——        | ——
`

func TestEachFlowHoldsWhatTheTableOfTheSchemeSays(t *testing.T) {
	r := full()
	r.AttackTechnical.Ransom.Note = "ID: 0123456789abcdef <ransom.note>"
	columns := []pb.Flow{pb.Flow_FLOW_PEER, pb.Flow_FLOW_EXPERT, pb.Flow_FLOW_EXPERT_NDA, pb.Flow_FLOW_ANONYMOUS, pb.Flow_FLOW_PUBLIC}
	lines := strings.Split(strings.TrimSpace(sharing), "\n")
	require.Len(t, lines, 12)
	for _, line := range lines[1:] {
		cells := strings.Split(line, "|")
		fields := strings.Fields(cells[1])
		for i, flow := range columns {
			p := project(t, r, flow)
			original, copied := set(r), set(p.Report)
			signs := []rune(strings.TrimSpace(cells[i+2]))
			require.Len(t, signs, len(fields), "%s, %s", cells[0], flow)
			for i, field := range fields {
				require.True(t, original[field], field)
				what := fmt.Sprintf("%s: %s in %s", cells[0], field, flow)
				switch signs[i] {
				case '○':
					require.Truef(t, copied[field], what)
					require.Equal(t, valuesAt(r, field), valuesAt(p.Report, field), what)
				case '△':
					require.Truef(t, copied[field], what)
					require.NotEqual(t, valuesAt(r, field), valuesAt(p.Report, field), what)
				case '—':
					require.Falsef(t, copied[field], what)
				default:
					require.Fail(t, "a sign that the table does not have", what)
				}
			}
		}
	}
}

// valuesAt is what stands at a path, as text.
func valuesAt(r *pb.Report, path string) (all []string) {
	var walk func(m protoreflect.Message, names []string)
	walk = func(m protoreflect.Message, names []string) {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(names[0]))
		one := func(v protoreflect.Value) {
			switch {
			case len(names) > 1:
				walk(v.Message(), names[1:])
			case f.Message() != nil:
				b, err := proto.MarshalOptions{Deterministic: true}.Marshal(v.Message().Interface())
				if err != nil {
					panic(err)
				}
				all = append(all, hex.EncodeToString(b))
			default:
				all = append(all, v.String())
			}
		}
		switch {
		case !m.Has(f):
		case f.IsList():
			for i := range m.Get(f).List().Len() {
				one(m.Get(f).List().Get(i))
			}
		default:
			one(m.Get(f))
		}
	}
	walk(r.ProtoReflect(), strings.Split(path, "."))
	return all
}

func TestUsersLearnTheStateOfTheServiceAndNothingElse(t *testing.T) {
	p := project(t, full(), pb.Flow_FLOW_STATUS).Report
	require.Equal(t, []string{
		"case_id", "community_id", "impact.affected_services", "impact.users_effect", "onward_permissions.by", "onward_permissions.to",
		"report_id", "restrictions.text",
	}, texts(t, &anonymizer.Projected{Report: p}))
	require.Equal(t, pb.BusinessImpact(1), p.GetImpact().GetBusiness())
	require.Equal(t, pb.RecoveryState(1), p.GetRecovery().GetState())
	require.True(t, p.GetRecovery().GetExpected().GetTime().AsTime().Equal(instant))
	require.Nil(t, p.GetRecovery().GetEarlierEstimates())
	require.Nil(t, p.GetEvent())
}

func TestAnAuthorityGetsTheReportItself(t *testing.T) {
	r := full()
	p := project(t, r, pb.Flow_FLOW_AUTHORITY)
	require.Same(t, r, p.Report)
	require.Equal(t, bundle, string(p.Bundle))
	require.Empty(t, p.Withheld)
	require.Empty(t, p.Generalised)
}

func TestAFlowThatIsNoneGetsNothing(t *testing.T) {
	for _, flow := range []pb.Flow{pb.Flow_FLOW_UNSPECIFIED, 99, -1} {
		p, err := anonymizer.Project(full(), flow, []byte(bundle))
		require.Error(t, err)
		require.Nil(t, p)
	}
}

// Unknown fields and values that this program does not know have no verdict.
func TestWhatIsUnknownDoesNotTravel(t *testing.T) {
	unknown := protowire.AppendTag(nil, 9999, protowire.BytesType)
	unknown = protowire.AppendString(unknown, "<unknown>")
	r := full()
	var spoil func(m protoreflect.Message)
	spoil = func(m protoreflect.Message) {
		m.SetUnknown(unknown)
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.Message() == nil:
			case f.IsList():
				for i := range v.List().Len() {
					spoil(v.List().Get(i).Message())
				}
			default:
				spoil(v.Message())
			}
			return true
		})
	}
	spoil(r.ProtoReflect())
	r.Event.Types = append(r.Event.Types, 4711)
	r.Spread.Risk = 4711
	for _, flow := range anonymizer.Flows {
		p := project(t, r, flow)
		require.NotContains(t, texts(t, p), "unknown", flow)
		require.NotContains(t, p.Report.GetEvent().GetTypes(), pb.EventType(4711))
		require.Zero(t, p.Report.GetSpread().GetRisk())
	}
}

func TestACopySharesNoMemoryWithTheReport(t *testing.T) {
	r := full()
	for _, flow := range anonymizer.Flows {
		p := project(t, r, flow)
		before, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		require.NoError(t, err)
		scramble(p.Report.ProtoReflect())
		after, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, before, after, flow)
	}
}

// scramble overwrites everything below a message.
func scramble(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() != nil && f.IsList():
			for i := range v.List().Len() {
				scramble(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			scramble(v.Message())
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			v.List().Set(0, protoreflect.ValueOfString("scrambled"))
		case f.Kind() == protoreflect.BytesKind:
			clear(v.Bytes())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("scrambled"))
		}
		return true
	})
}

// message, context and technique are the texts that several flows have.
const (
	message   = "report_id case_id community_id restrictions.text onward_permissions.by onward_permissions.to"
	technique = "attack_technical.malware attack_technical.techniques attack_technical.tools attack_technical.indicators.value " +
		"attack_technical.indicators.description ransom.note attack_technical.ransom.extension attack_technical.ransom.family " +
		"attack_technical.ransom.intrusion_path attack_technical.ddos.vector attack_technical.stix_bundle.media_type attack_technical.text " +
		"stix.indicator"
	vulnerability = "attack_technical.vulnerabilities stix.vulnerability"
	system        = "affected_systems.product affected_systems.version"
	damage        = "title summary impact.affected_services impact.users_effect response_timeline.text response others_response publication.url"
	notices       = "parallel_notices.role parallel_notices.by parallel_notices.reference"
	identity      = "reporter.organisation reporter.unit reporter.contacts.name reporter.contacts.phone reporter.contacts.mail"
	place         = "place.port place.terminal"
)

func TestExactlyTheseTextsLeave(t *testing.T) {
	notice := func(r *pb.Report) { r.Kind = pb.Kind_KIND_NOTICE }
	consent := func(c *pb.Consents) func(*pb.Report) { return func(r *pb.Report) { r.Consents = c } }
	unsanitised := func(r *pb.Report) {
		for _, a := range r.Attachments {
			a.Sanitised = false
		}
	}
	for _, c := range []struct {
		name   string
		change func(*pb.Report)
		flow   pb.Flow
		texts  string // besides those of the message itself
		parts  string
	}{
		{"peers", nil, pb.Flow_FLOW_PEER, technique + " attack_timeline.text", "TECHNIQUE"},
		{"peers, a notice", notice, pb.Flow_FLOW_PEER, technique + " attack_timeline.text title summary", "TECHNIQUE"},
		{"peers, parts with hidden data", unsanitised, pb.Flow_FLOW_PEER, technique + " attack_timeline.text", ""},
		{"peers, experts may have it", consent(&pb.Consents{ExpertShare: true}), pb.Flow_FLOW_PEER, technique + " " + vulnerability + " attack_timeline.text", "TECHNIQUE"},
		{"peers, cabinet may have it", consent(&pb.Consents{CabinetShare: true}), pb.Flow_FLOW_PEER, technique + " attack_timeline.text", "TECHNIQUE"},
		{"peers, named", consent(&pb.Consents{PeerNamed: true}), pb.Flow_FLOW_PEER, technique + " attack_timeline.text attachments.name " + identity, "TECHNIQUE"},
		{"peers, damage", consent(&pb.Consents{PeerDamage: true}), pb.Flow_FLOW_PEER,
			technique + " attack_timeline.text parallel_notices.role parallel_notices.reference " + strings.ReplaceAll(damage, " publication.url", ""), "TECHNIQUE DAMAGE"},
		{"peers, named and damage", consent(&pb.Consents{PeerNamed: true, PeerDamage: true}), pb.Flow_FLOW_PEER,
			technique + " attack_timeline.text attachments.name " + notices + " " + damage + " " + identity + " " + place, "TECHNIQUE DAMAGE IDENTITY"},
		{"peers, named and damage, parts with hidden data", func(r *pb.Report) {
			unsanitised(r)
			r.Consents = &pb.Consents{PeerNamed: true, PeerDamage: true}
		}, pb.Flow_FLOW_PEER, technique + " attack_timeline.text " + notices + " " + damage + " " + identity + " " + place, ""},
		{"public, parts with hidden data", unsanitised, pb.Flow_FLOW_PUBLIC, "attack_technical.vulnerabilities " + system + " attack_timeline.text spread.text " + damage + " reporter.organisation " + place, ""},
		{"expert", nil, pb.Flow_FLOW_EXPERT, technique + " " + vulnerability + " " + system + " attack_timeline.text spread.text", "TECHNIQUE CONTEXT"},
		{"expert, parts with hidden data", unsanitised, pb.Flow_FLOW_EXPERT, technique + " " + vulnerability + " " + system + " attack_timeline.text spread.text", "TECHNIQUE"},
		{"expert under NDA", unsanitised, pb.Flow_FLOW_EXPERT_NDA,
			technique + " " + vulnerability + " " + system + " attack_timeline.text spread.text attachments.name stix.identity " + notices + " " + damage + " " + identity + " " + place,
			"TECHNIQUE CONTEXT DAMAGE IDENTITY"},
		{"anonymous", nil, pb.Flow_FLOW_ANONYMOUS, technique + " " + vulnerability + " attack_timeline.text", "TECHNIQUE"},
		{"anonymous, consents are for peers", consent(&pb.Consents{PeerNamed: true, PeerDamage: true}), pb.Flow_FLOW_ANONYMOUS, technique + " " + vulnerability + " attack_timeline.text", "TECHNIQUE"},
		{"public", nil, pb.Flow_FLOW_PUBLIC, "attack_technical.vulnerabilities " + system + " attack_timeline.text spread.text " + damage + " reporter.organisation " + place, "CONTEXT DAMAGE"},
		{"status", nil, pb.Flow_FLOW_STATUS, "impact.affected_services impact.users_effect", ""},
		{"status, a notice", notice, pb.Flow_FLOW_STATUS, "impact.affected_services impact.users_effect title summary", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := full()
			if c.change != nil {
				c.change(r)
			}
			want := strings.Fields(message + " " + c.texts)
			for class := range strings.FieldsSeq(c.parts) {
				want = append(want, "attached "+class)
			}
			if c.parts != "" {
				want = append(want, "attachments.media_type")
			}
			require.ElementsMatch(t, want, texts(t, project(t, r, c.flow)))
		})
	}
}

func TestACopySaysWhatItLacksAndWhatIsCoarser(t *testing.T) {
	r := full()
	r.AttackTechnical.Ransom.Note = "https://leak.example/victim?id=1"
	p := project(t, r, pb.Flow_FLOW_PEER)
	require.Equal(t, []string{
		"attachments", "attachments.name", "attack_technical.vulnerabilities", "derived_from", "impact", "information_source",
		"legal_basis", "others_response", "parallel_notices", "personal_data", "place", "publication", "reason", "recipients", "recovery", "relabels",
		"reporter", "response", "response_timeline", "route_choice", "spread.text", "summary", "title",
	}, p.Withheld)
	require.Equal(t, []string{
		"affected_systems", "attack_technical.ransom.note", "attack_technical.stix_bundle", "attack_timeline", "occurred", "recognised",
	}, p.Generalised)
	require.Equal(t, 2, p.Dropped)

	p = project(t, r, pb.Flow_FLOW_STATUS)
	require.Contains(t, p.Withheld, "recovery.earlier_estimates")
	require.Contains(t, p.Withheld, "attack_technical")
	require.NotContains(t, p.Withheld, "recovery")
	require.Empty(t, p.Generalised)

	p = project(t, &pb.Report{Kind: pb.Kind_KIND_NOTICE, Title: "題", Summary: "文"}, pb.Flow_FLOW_PEER)
	require.Empty(t, p.Withheld)
	require.Empty(t, p.Generalised)
	require.Equal(t, "題", p.Report.GetTitle())
}

// What a recipient is told of the copy depends on nothing that it may not see.
func TestWhatARecipientIsToldIsTheSameForEveryReport(t *testing.T) {
	withheld, generalised := anonymizer.Lacks(&pb.Report{Kind: pb.Kind_KIND_INCIDENT}, pb.Flow_FLOW_PEER)
	require.Equal(t, []string{"affected_systems", "attack_technical.ransom.note", "attack_technical.stix_bundle", "attack_timeline", "occurred", "recognised"}, generalised)
	require.Contains(t, withheld, "parallel_notices")
	require.NotContains(t, withheld, "parallel_notices.role")
	require.Contains(t, withheld, "title")
	for _, flow := range anonymizer.Flows {
		for _, consents := range []*pb.Consents{nil, {PeerNamed: true}, {PeerDamage: true, ExpertShare: true}} {
			r := full()
			r.Consents = consents
			p := project(t, r, flow)
			full, coarser := anonymizer.Lacks(p.Report, flow)
			empty, coarserToo := anonymizer.Lacks(project(t, &pb.Report{Kind: r.Kind, Consents: consents}, flow).Report, flow)
			require.Equal(t, full, empty)
			require.Equal(t, coarser, coarserToo)
			for _, field := range p.Withheld {
				if field != "attachments" && field != "attack_technical.ransom" {
					above, _, _ := strings.Cut(field, ".")
					require.True(t, slices.Contains(full, field) || slices.Contains(full, above), "%s in %s", field, flow)
				}
			}
		}
	}
	withheld, generalised = anonymizer.Lacks(full(), pb.Flow_FLOW_AUTHORITY)
	require.Empty(t, withheld)
	require.Empty(t, generalised)
}

// A message of which nothing may go is not even there: an empty one would say
// that the report has it.
func TestNothingTellsThatSomethingWasWithheld(t *testing.T) {
	r := &pb.Report{
		Impact:          &pb.Impact{UsersEffect: "滞船"},
		AffectedSystems: []*pb.AffectedSystem{{Product: "製品"}, {Kind: pb.SystemKind_SYSTEM_KIND_TOS, Product: "製品"}},
		Spread:          &pb.Spread{Text: "拡大"},
		Consents:        &pb.Consents{CabinetShare: true},
	}
	p := project(t, r, pb.Flow_FLOW_PEER)
	require.True(t, proto.Equal(&pb.Report{AffectedSystems: []*pb.AffectedSystem{{Kind: pb.SystemKind_SYSTEM_KIND_TOS}}}, p.Report), "%v", p.Report)
	require.Equal(t, []string{"consents", "impact", "spread"}, p.Withheld)
	require.Equal(t, []string{"affected_systems"}, p.Generalised)
	require.True(t, proto.Equal(&pb.Report{}, project(t, &pb.Report{Recovery: &pb.Recovery{}, Event: &pb.Event{}}, pb.Flow_FLOW_EXPERT_NDA).Report))
}

func TestTimesArePutIntoDaysOfJapan(t *testing.T) {
	for at, want := range map[string]string{
		"2026-11-25T14:59:59.999999999Z": "2026-11-24T15:00:00Z",
		"2026-11-25T15:00:00Z":           "2026-11-25T15:00:00Z",
		"1969-12-31T23:00:00.5Z":         "1969-12-31T15:00:00Z",
		"0001-01-01T00:00:00Z":           "0000-12-31T15:00:00Z",
	} {
		moment, err := time.Parse(time.RFC3339Nano, at)
		require.NoError(t, err)
		r := &pb.Report{Occurred: &pb.Moment{Time: timestamppb.New(moment), Certainty: pb.Certainty_CERTAINTY_CONFIRMED}}
		p := project(t, r, pb.Flow_FLOW_PEER)
		require.Equal(t, want, p.Report.GetOccurred().GetTime().AsTime().Format(time.RFC3339Nano), at)
		require.Equal(t, pb.Precision_PRECISION_DAY, p.Report.GetOccurred().GetPrecision())
		require.Equal(t, pb.Certainty_CERTAINTY_CONFIRMED, p.Report.GetOccurred().GetCertainty())
		require.Equal(t, []string{"occurred"}, p.Generalised)
	}
	month := &pb.Moment{Time: timestamppb.New(time.Date(2026, 10, 31, 15, 0, 0, 0, time.UTC)), Precision: pb.Precision_PRECISION_MONTH}
	p := project(t, &pb.Report{Occurred: month}, pb.Flow_FLOW_PEER)
	require.True(t, proto.Equal(month, p.Report.GetOccurred()), "what is coarser already stays")
	require.Empty(t, p.Generalised)
	unknown := &pb.Moment{Certainty: pb.Certainty_CERTAINTY_UNKNOWN}
	require.True(t, proto.Equal(unknown, project(t, &pb.Report{Occurred: unknown}, pb.Flow_FLOW_PEER).Report.GetOccurred()))
}

func TestTheBundleOfACopyHasADigestOfItsOwn(t *testing.T) {
	r := full()
	p := project(t, r, pb.Flow_FLOW_PEER)
	part := p.Report.GetAttackTechnical().GetStixBundle()
	require.Equal(t, digest(string(p.Bundle)), part.GetDigest())
	require.Equal(t, uint64(len(p.Bundle)), part.GetSize())
	require.NotEqual(t, r.AttackTechnical.StixBundle.Digest, part.GetDigest())
	require.Empty(t, part.GetName())
	require.Equal(t, pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE, part.GetClass())
	require.Equal(t, digest(bundle), r.AttackTechnical.StixBundle.Digest, "the report itself stays as it was")
}

func TestABundleNeverStaysWholeBesideAProjection(t *testing.T) {
	victimOnly := `{"type":"bundle","id":"bundle--00000000-0000-4000-8000-000000000001","objects":[{"type":"identity","id":"identity--1","name":"東ターミナル"}]}`
	with := func(b string) *pb.Report {
		return &pb.Report{Tlp: pb.TlpLabel_TLP_LABEL_AMBER, AttackTechnical: &pb.AttackTechnical{Text: "x", StixBundle: &pb.Part{Digest: digest(b), Size: uint64(len(b))}}}
	}
	p, err := anonymizer.Project(with(victimOnly), pb.Flow_FLOW_PEER, []byte(victimOnly))
	require.NoError(t, err)
	require.Nil(t, p.Report.GetAttackTechnical().GetStixBundle(), "nothing of it may go")
	require.Nil(t, p.Bundle)
	require.Equal(t, 1, p.Dropped)
	require.Equal(t, []string{"attack_technical.stix_bundle"}, p.Withheld)

	p, err = anonymizer.Project(with(victimOnly), pb.Flow_FLOW_EXPERT_NDA, nil)
	require.NoError(t, err)
	require.Nil(t, p.Report.GetAttackTechnical().GetStixBundle(), "its bytes are not at hand")

	_, err = anonymizer.Project(with(bundle), pb.Flow_FLOW_PEER, []byte(victimOnly))
	require.ErrorIs(t, err, anonymizer.ErrBundle, "bytes of another bundle")
	_, err = anonymizer.Project(&pb.Report{}, pb.Flow_FLOW_PEER, []byte(bundle))
	require.ErrorIs(t, err, anonymizer.ErrBundle, "the report has no bundle")
	_, err = anonymizer.Project(with("{}"), pb.Flow_FLOW_PEER, []byte("{}"))
	var refusal *stix.BundleError
	require.ErrorAs(t, err, &refusal)
}

// An object of the bundle may be marked stricter than the report.
func TestTheBundleOfACopyObeysTheLabelOfTheReport(t *testing.T) {
	red := strings.ReplaceAll(bundle, `"name":"<stix.indicator>"`, `"name":"<stix.indicator>","object_marking_refs":["marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1"]`)
	for label, goes := range map[pb.TlpLabel]bool{pb.TlpLabel_TLP_LABEL_AMBER: false, pb.TlpLabel_TLP_LABEL_RED: true} {
		r := &pb.Report{Tlp: label, AttackTechnical: &pb.AttackTechnical{StixBundle: &pb.Part{Digest: digest(red)}}}
		p, err := anonymizer.Project(r, pb.Flow_FLOW_EXPERT, []byte(red))
		require.NoError(t, err)
		require.Equal(t, goes, bytes.Contains(p.Bundle, []byte("stix.indicator")), label)
	}
}

func TestRemainsSaysWhetherACopyHelpsAnybody(t *testing.T) {
	helps := []*pb.Report{
		{AttackTechnical: &pb.AttackTechnical{Text: "x"}},
		{AttackTechnical: &pb.AttackTechnical{Vulnerabilities: []string{"CVE-2026-0001"}}},
		{AttackTechnical: &pb.AttackTechnical{StixBundle: &pb.Part{}}},
		{Kind: pb.Kind_KIND_NOTICE, Title: "注意喚起"},
		{Kind: pb.Kind_KIND_NOTICE, Summary: "文"},
		{AttackTimeline: []*pb.TimelineEntry{{Text: "侵入"}}},
		{AffectedSystems: []*pb.AffectedSystem{{Kind: pb.SystemKind_SYSTEM_KIND_TOS}}},
		{Stage: pb.Stage_STAGE_WITHDRAWAL},
		{Attachments: []*pb.Part{{Class: pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE, Sanitised: true}}},
	}
	for _, r := range helps {
		require.True(t, anonymizer.Remains(r), "%v", r)
	}
	certainty := pb.Certainty_CERTAINTY_CONFIRMED
	incident := &pb.Report{
		Kind: pb.Kind_KIND_INCIDENT, ReportId: "00", Title: "東ターミナルの障害", Summary: "停止した。", Response: "対応中", Place: &pb.Place{Terminal: "東"},
		Occurred: &pb.Moment{Time: timestamppb.New(instant)}, Event: &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_MALWARE}},
		Cause: &pb.Cause{Class: pb.CauseClass_CAUSE_CLASS_INTENTIONAL}, Spread: &pb.Spread{Risk: pb.SpreadRisk_SPREAD_RISK_POSSIBLE, Text: "拡大"},
		AffectedSystems: []*pb.AffectedSystem{{Kind: pb.SystemKind_SYSTEM_KIND_OTHER, Product: "製品"}}, AttackTechnical: &pb.AttackTechnical{Certainty: certainty},
		AttackTimeline: []*pb.TimelineEntry{{Moment: &pb.Moment{Time: timestamppb.New(instant)}}},
		Impact:         &pb.Impact{Business: pb.BusinessImpact_BUSINESS_IMPACT_STOPPED}, Recovery: &pb.Recovery{State: pb.RecoveryState_RECOVERY_STATE_IN_PROGRESS},
	}
	for flow, remains := range map[pb.Flow]bool{
		pb.Flow_FLOW_PEER: false, pb.Flow_FLOW_EXPERT: true, pb.Flow_FLOW_ANONYMOUS: true, pb.Flow_FLOW_STATUS: true, pb.Flow_FLOW_PUBLIC: true,
	} {
		require.Equal(t, remains, anonymizer.Remains(project(t, incident, flow).Report), flow)
	}
	incident.Impact, incident.Recovery = &pb.Impact{Business: pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN}, &pb.Recovery{State: pb.RecoveryState_RECOVERY_STATE_UNKNOWN}
	require.False(t, anonymizer.Remains(project(t, incident, pb.Flow_FLOW_STATUS).Report), "nobody knows anything yet")
	incident.Recovery.Expected = &pb.Moment{Time: timestamppb.New(instant)}
	require.True(t, anonymizer.Remains(project(t, incident, pb.Flow_FLOW_STATUS).Report))
}

func BenchmarkProject(b *testing.B) {
	r := full()
	for range 50 {
		r.AttackTechnical.Indicators = append(r.AttackTechnical.Indicators, r.AttackTechnical.Indicators[0])
	}
	for _, flow := range anonymizer.Flows {
		b.Run(strings.TrimPrefix(flow.String(), "FLOW_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				project(b, r, flow)
			}
		})
	}
}
