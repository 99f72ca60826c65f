package anonymizer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	pb "minato.example/proto/minato/v1"
)

// walk hands out every field that can be reached from a report.
func walk(m protoreflect.MessageDescriptor, path string, fn func(f protoreflect.FieldDescriptor, path string)) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		fn(f, path+string(f.Name()))
		if inner := f.Message(); inner != nil && inner.ParentFile().Package() == "minato.v1" {
			walk(inner, path+string(f.Name())+".", fn)
		}
	}
}

func TestEveryFieldHasAVerdictAndEveryVerdictAField(t *testing.T) {
	var paths []string
	walk((&pb.Report{}).ProtoReflect().Descriptor(), "", func(_ protoreflect.FieldDescriptor, path string) {
		paths = append(paths, path)
		require.Containsf(t, fieldRows, path, "%s has no verdict: add a row to the table in fields.go", path)
	})
	for path := range fieldRows {
		require.Containsf(t, paths, path, "there is no field %s: take its row out of the table in fields.go", path)
	}
	require.Greater(t, len(paths), 100, "the walk ended early")
	for _, table := range []map[string]row{fieldRows, partRows, bundleRows} {
		for name, r := range table {
			require.ElementsMatch(t, Flows, slices.Collect(maps.Keys(r)), name)
		}
	}
	for class := range partRows {
		require.Contains(t, pb.DisclosureClass_value, "DISCLOSURE_CLASS_"+class)
	}
	require.ElementsMatch(t, []string{"file_names", "victim"}, slices.Collect(maps.Keys(bundleRows)))
}

// A field below a message that is withheld does not travel whatever its row
// says, so a row that says otherwise is a mistake. And a message of which some
// fields go goes.
func TestAFieldGoesOnlyWithTheMessageThatHoldsIt(t *testing.T) {
	for path, r := range fieldRows {
		dot := strings.LastIndexByte(path, '.')
		if dot < 0 {
			continue
		}
		for _, flow := range Flows {
			for holds := range condition(32) {
				if _, goes := r[flow].of(holds); goes {
					_, above := fieldRows[path[:dot]][flow].of(holds)
					require.Truef(t, above, "%s goes to %s with conditions %b, what holds it does not", path, flow, holds)
				}
			}
		}
	}
}

// Forms fit the kind of their field.
func TestAFormFitsItsField(t *testing.T) {
	walk((&pb.Report{}).ProtoReflect().Descriptor(), "", func(f protoreflect.FieldDescriptor, path string) {
		for flow, v := range fieldRows[path] {
			for _, g := range v {
				isMessage := f.Message() != nil && f.Message().ParentFile().Package() == "minato.v1"
				isPrecision := f.Enum() != nil && f.Enum().FullName() == "minato.v1.Precision"
				isTime := f.Message() != nil && !isMessage
				switch g.as {
				case inPart:
					require.True(t, isMessage, "%s in %s", path, flow)
				case toTheDay:
					require.True(t, isTime || isPrecision, "%s in %s", path, flow)
				case withoutIDs:
					require.Equal(t, protoreflect.StringKind, f.Kind(), "%s in %s", path, flow)
				}
				require.Zero(t, g.needs&isSanitised, "%s is no part", path)
			}
		}
	})
}

func TestABadTableIsRefused(t *testing.T) {
	for _, bad := range []string{
		"\n PEER EXPERT\nreport_id keep\n",
		"\n PEER\nreport_id keep\nreport_id keep\n",
		"\n PEER\nreport_id kept\n",
		"\n PEER\nreport_id named+\n",
		"\n PIER\nreport_id keep\n",
	} {
		require.Panics(t, func() { read(bad) }, bad)
	}
}

// The classes that stand beside the fields in the contract bound the table: the
// verdicts of a class are never wider than what the class allows by default.
func TestNoVerdictIsWiderThanTheClassOfItsField(t *testing.T) {
	var check func(m protoreflect.MessageDescriptor, inherited pb.DisclosureClass, path string)
	check = func(m protoreflect.MessageDescriptor, inherited pb.DisclosureClass, path string) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			class := inherited
			if own := proto.GetExtension(f.Options(), pb.E_Disclosure).(pb.DisclosureClass); own != 0 {
				class = own
			}
			name := path + string(f.Name())
			goes := func(flow pb.Flow) bool { _, ok := fieldRows[name][flow].of(0); return ok }
			switch class {
			case pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE:
				require.False(t, goes(pb.Flow_FLOW_PEER), name)
				require.False(t, goes(pb.Flow_FLOW_EXPERT), name)
			case pb.DisclosureClass_DISCLOSURE_CLASS_IDENTITY:
				for _, flow := range []pb.Flow{pb.Flow_FLOW_PEER, pb.Flow_FLOW_EXPERT, pb.Flow_FLOW_ANONYMOUS, pb.Flow_FLOW_STATUS} {
					require.False(t, goes(flow), name)
				}
			case pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE:
				require.False(t, goes(pb.Flow_FLOW_STATUS), name)
				require.True(t, goes(pb.Flow_FLOW_EXPERT), name)
			case pb.DisclosureClass_DISCLOSURE_CLASS_CONTEXT:
				require.False(t, goes(pb.Flow_FLOW_STATUS), name)
			}
			if inner := f.Message(); inner != nil && inner.ParentFile().Package() == "minato.v1" {
				check(inner, class, name+".")
			}
		}
	}
	check((&pb.Report{}).ProtoReflect().Descriptor(), 0, "")
}

// generator makes reports at random from a small world, so that equal values
// and empty fields are common.
type generator struct{ *rand.Rand }

var words = []string{"", "港", "TOS", "ID: 0123456789abcdef", "C2", "x"}

func (g generator) message(m protoreflect.Message) {
	if t, ok := m.Interface().(*timestamppb.Timestamp); ok {
		t.Seconds, t.Nanos = 1764000000+g.Int64N(3*24*3600), g.Int32N(2)*5
		return
	}
	for i := range m.Descriptor().Fields().Len() {
		if g.IntN(5) > 0 {
			g.field(m, m.Descriptor().Fields().Get(i))
		}
	}
}

func (g generator) field(m protoreflect.Message, f protoreflect.FieldDescriptor) {
	if !f.IsList() {
		m.Set(f, g.value(f, m.NewField(f)))
		return
	}
	list := m.NewField(f).List()
	for range g.IntN(3) {
		var empty protoreflect.Value
		if f.Message() != nil {
			empty = list.NewElement()
		}
		list.Append(g.value(f, empty))
	}
	m.Set(f, protoreflect.ValueOfList(list))
}

func (g generator) value(f protoreflect.FieldDescriptor, empty protoreflect.Value) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(words[g.IntN(len(words))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(g.IntN(3))})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(g.IntN(f.Enum().Values().Len() + 1))) // one too far
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(g.Uint32N(3))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(g.Uint64N(3))
	case protoreflect.MessageKind:
		g.message(empty.Message())
		return empty
	}
	panic("the generator does not know " + f.Kind().String())
}

// report makes a report and its bundle.
func (g generator) report() (*pb.Report, []byte) {
	r := &pb.Report{}
	g.message(r.ProtoReflect())
	r.Tlp = pb.TlpLabel(1 + g.IntN(5))
	return r, g.bundle(r, g.IntN(3), g.IntN(3))
}

// bundle makes a bundle with technique and with a victim by number and puts its
// digest into the report, if that has one.
func (g generator) bundle(r *pb.Report, technique, victim int) []byte {
	part := r.GetAttackTechnical().GetStixBundle()
	if part == nil {
		return nil
	}
	var objects []string
	for i := range technique {
		objects = append(objects, fmt.Sprintf(`{"type":"tool","id":"tool--%d","name":"tool %d","x_who":"victim %d","created_by_ref":"identity--%d"}`, i, i, victim, victim))
	}
	if victim > 0 {
		objects = append(objects, fmt.Sprintf(`{"type":"identity","id":"identity--%d","name":"victim %d"}`, victim, victim))
	}
	b := fmt.Appendf(nil, `{"type":"bundle","id":"bundle--00000000-0000-4000-8000-%012d","objects":[%s]}`, g.IntN(1000), strings.Join(objects, ","))
	sum := sha256.Sum256(b)
	part.Digest, part.Size = sum[:], uint64(len(b))
	return b
}

// otherwise gives all that a flow withholds another value: fields, attachments,
// the time of day, what of the bundle does not go.
func (g generator) otherwise(r *pb.Report, flow pb.Flow) (*pb.Report, []byte) {
	holds := conditions(r)
	other := proto.Clone(r).(*pb.Report)
	g.vary(other.ProtoReflect(), plan, flow, holds)
	b := builder{flow: flow, holds: holds}
	stay := slices.DeleteFunc(slices.Clone(other.GetAttachments()), func(p *pb.Part) bool { return !b.attached(p) })
	other.Attachments = nil
	for _, part := range append(stay, nil) {
		for range g.IntN(2) {
			one := &pb.Part{}
			g.message(one.ProtoReflect())
			if !b.attached(one) {
				other.Attachments = append(other.Attachments, one)
			}
		}
		if part != nil {
			other.Attachments = append(other.Attachments, part)
		}
	}
	return other, nil
}

func (g generator) vary(m protoreflect.Message, steps []step, flow pb.Flow, holds condition) {
	for _, s := range steps {
		as, goes := s.row[flow].of(holds)
		switch {
		case s.path == "attack_technical.stix_bundle" || s.path == "attachments":
		case !goes && s.path != "consents.expert_share" && s.path != "consents.peer_named" && s.path != "consents.peer_damage" && s.path != "consents":
			m.Clear(s.field)
			if g.IntN(3) > 0 {
				g.field(m, s.field)
			}
		case as == toTheDay && s.field.Enum() != nil:
			if moment := m.Interface().(*pb.Moment); moment.GetTime() != nil && moment.GetPrecision() <= pb.Precision_PRECISION_DAY {
				moment.Precision = pb.Precision(g.IntN(int(pb.Precision_PRECISION_DAY) + 1))
			}
		case as == toTheDay && m.Has(s.field):
			t := m.Get(s.field).Message().Interface().(*timestamppb.Timestamp)
			m.Set(s.field, protoreflect.ValueOfMessage((&timestamppb.Timestamp{Seconds: day(t).GetSeconds() + g.Int64N(24*3600), Nanos: g.Int32N(1e9)}).ProtoReflect()))
		case !m.Has(s.field) || s.below == nil || !goes:
		case s.field.IsList():
			for i := range m.Get(s.field).List().Len() {
				g.vary(m.Get(s.field).List().Get(i).Message(), s.below, flow, holds)
			}
		default:
			g.vary(m.Get(s.field).Message(), s.below, flow, holds)
		}
	}
}

// bytesOf is all that leaves with a copy.
func bytesOf(t require.TestingT, p *Projected) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.Report)
	require.NoError(t, err)
	return append(append(b, 0), p.Bundle...)
}

// The proof that nothing withheld leaves: two reports that differ only in what
// a flow withholds give the same bytes.
func TestReportsThatDifferInWhatIsWithheldGiveTheSameBytes(t *testing.T) {
	pairs, different := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		for i := range uint64(200) {
			g := generator{rand.New(rand.NewPCG(seed, i))}
			flow := Flows[g.IntN(len(Flows))]
			technique, victim := g.IntN(3), g.IntN(3)
			r, _ := g.report()
			other, _ := g.otherwise(r, flow)
			_, whole := bundleRows["victim"][flow].of(conditions(r))
			first := g.bundle(r, technique, victim)
			if !whole {
				victim = g.IntN(3)
			}
			second := g.bundle(other, technique, victim)
			a, err := Project(r, flow, first)
			require.NoError(t, err)
			b, err := Project(other, flow, second)
			require.NoError(t, err)
			require.Equal(t, bytesOf(t, a), bytesOf(t, b), "seed %d, pair %d, %s", seed, i, flow)
			pairs++
			if !proto.Equal(r, other) {
				different++
			}
		}
	})
	require.GreaterOrEqual(t, pairs, 20_000)
	require.Greater(t, different, pairs*9/10, "the pairs are too much alike to prove anything")
}

// fieldsOf are the fields that a copy has, with the classes of its parts.
func fieldsOf(p *Projected) map[string]bool {
	all := map[string]bool{}
	var in func(m protoreflect.Message, steps []step)
	in = func(m protoreflect.Message, steps []step) {
		for _, s := range steps {
			if !m.Has(s.field) {
				continue
			}
			all[s.path] = true
			switch {
			case s.below == nil:
			case s.field.IsList():
				for i := range m.Get(s.field).List().Len() {
					in(m.Get(s.field).List().Get(i).Message(), s.below)
				}
			default:
				in(m.Get(s.field).Message(), s.below)
			}
		}
	}
	in(p.Report.ProtoReflect(), plan)
	for _, a := range p.Report.GetAttachments() {
		all["attached "+a.GetClass().String()] = true
	}
	return all
}

// requireWithin holds that a copy has no field that another lacks. A precision
// does not count: it says how coarse the time beside it was made.
func requireWithin(t require.TestingT, less, more map[string]bool, flows ...pb.Flow) {
	for field := range less {
		if !strings.HasSuffix(field, ".precision") {
			require.True(t, more[field], "%s: %v", field, flows)
		}
	}
}

func TestProjectingTwiceIsProjectingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generator{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
		r, bundle := g.report()
		for _, flow := range Flows {
			once, err := Project(r, flow, bundle)
			require.NoError(t, err)
			twice, err := Project(once.Report, flow, once.Bundle)
			require.NoError(t, err)
			require.Equal(t, bytesOf(t, once), bytesOf(t, twice), "%s", flow)
			require.Empty(t, twice.Generalised, "%s", flow)
			require.Empty(t, twice.Withheld, "%s", flow)
			require.Zero(t, twice.Dropped)
		}
	})
}

func TestAProjectionOfAProjectionHoldsNothingThatEitherWithholds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generator{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))}
		r, bundle := g.report()
		for _, a := range Flows {
			first, err := Project(r, a, bundle)
			require.NoError(t, err)
			for _, b := range Flows {
				both, err := Project(first.Report, b, first.Bundle)
				require.NoError(t, err)
				direct, err := Project(r, b, bundle)
				require.NoError(t, err)
				requireWithin(t, fieldsOf(both), fieldsOf(first), a, b)
				requireWithin(t, fieldsOf(both), fieldsOf(direct), a, b)
				for _, path := range append(direct.Withheld, first.Withheld...) {
					if isInList(path) || strings.HasSuffix(path, ".precision") {
						continue
					}
					require.False(t, fieldsOf(both)[path], "%s: %s after %s", path, b, a)
				}
				if !bytes.Contains(direct.Bundle, []byte("victim")) {
					require.NotContains(t, string(both.Bundle), "victim")
				}
			}
		}
	})
}

// isInList reports the fields of which some values may be withheld and others
// not: entries that nothing is left of, values that have no name.
func isInList(path string) bool {
	repeated := false
	walk((&pb.Report{}).ProtoReflect().Descriptor(), "", func(f protoreflect.FieldDescriptor, p string) {
		repeated = repeated || f.IsList() && (path == p || strings.HasPrefix(path, p+"."))
	})
	return repeated
}

func TestAConsentNeverTakesAnythingAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generator{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))}
		r, bundle := g.report()
		for _, flow := range Flows {
			before, err := Project(r, flow, bundle)
			require.NoError(t, err)
			for _, consent := range []func(*pb.Consents){
				func(c *pb.Consents) { c.CabinetShare = true },
				func(c *pb.Consents) { c.ExpertShare = true },
				func(c *pb.Consents) { c.PeerNamed = true },
				func(c *pb.Consents) { c.PeerDamage = true },
			} {
				more := proto.Clone(r).(*pb.Report)
				if more.Consents == nil {
					more.Consents = &pb.Consents{}
				}
				consent(more.Consents)
				after, err := Project(more, flow, bundle)
				require.NoError(t, err)
				requireWithin(t, fieldsOf(before), fieldsOf(after), flow)
				if flow != pb.Flow_FLOW_PEER {
					require.Equal(t, bytesOf(t, before), bytesOf(t, after), "a consent of peers is for peers: %s", flow)
				}
			}
		}
	})
}

// Where nobody consents to more, the flows form a ladder.
func TestACloserFlowHoldsAtLeastAsMuch(t *testing.T) {
	ladder := [][2]pb.Flow{
		{pb.Flow_FLOW_PEER, pb.Flow_FLOW_EXPERT}, {pb.Flow_FLOW_EXPERT, pb.Flow_FLOW_EXPERT_NDA},
		{pb.Flow_FLOW_STATUS, pb.Flow_FLOW_PUBLIC}, {pb.Flow_FLOW_PUBLIC, pb.Flow_FLOW_EXPERT_NDA},
		{pb.Flow_FLOW_PEER, pb.Flow_FLOW_ANONYMOUS},
	}
	rapid.Check(t, func(t *rapid.T) {
		g := generator{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))}
		r, bundle := g.report()
		r.Consents = nil
		for _, step := range ladder {
			far, err := Project(r, step[0], bundle)
			require.NoError(t, err)
			near, err := Project(r, step[1], bundle)
			require.NoError(t, err)
			requireWithin(t, fieldsOf(far), fieldsOf(near), step[:]...)
		}
	})
}
