package node

import (
	"context"
	"fmt"

	"minato.example/anonymizer"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// project builds the form of a report for one flow with the functions that the
// hub uses for reports that it may read. Nothing goes where nothing is left, and
// no name of the source goes into a copy that does not name it.
func (n *Node) project(ctx context.Context, r *pb.Report, flow pb.Flow, named bool) (*form, []rpc.Violation, error) {
	if flow == pb.Flow_FLOW_AUTHORITY {
		return &form{flow: flow, named: named, report: r}, nil, nil
	}
	var bundle []byte
	if b := r.GetAttackTechnical().GetStixBundle(); b != nil {
		var err error
		if bundle, err = n.store.readPart(ctx, b.GetDigest()); err != nil {
			return nil, nil, err
		}
	}
	p, err := anonymizer.Project(r, flow, bundle)
	if err != nil {
		return nil, []rpc.Violation{{Field: "attack_technical.stix_bundle", Reason: "BUNDLE_INVALID",
			Japanese: fmt.Sprintf("STIX バンドルから写しを作れません (%v)。minato stix check で確かめ、直してから送ってください。", err),
			English:  fmt.Sprintf("No copy can be made of the STIX bundle (%v). Check it with `minato stix check`, mend it and send again.", err)}}, nil
	}
	f := &form{flow: flow, named: named, report: p.Report, bundle: p.Bundle, withheld: p.Withheld, generalised: p.Generalised}
	if !anonymizer.Remains(p.Report) {
		return f, []rpc.Violation{{Field: "recipients", Reason: "NOTHING_REMAINS",
			Japanese: "同業者などに渡る写しに、役立つ内容が残りません。攻撃技術情報 (--technical, --stix) に書くか、注意喚起 (--notice) として送るか、被害内容の共有に同意 (--peer-damage) してください。",
			English:  "The copy for peers and the like would hold nothing of use. Write it into the technical part (--technical, --stix), send it as a notice (--notice), or consent to sharing the damage (--peer-damage)."}}, nil
	}
	if named {
		return f, nil, nil
	}
	bad, err := n.namesIn(ctx, f)
	return f, bad, err
}

// namesIn finds the names of this member that still stand in a form.
func (n *Node) namesIn(ctx context.Context, f *form) ([]rpc.Violation, error) {
	profile, _, err := n.store.profile(ctx)
	if err != nil {
		return nil, err
	}
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return nil, err
	}
	own := memberOf(members, n.id.member)
	if own == nil { // the hub was never reached
		own = &pb.Member{Id: n.id.member}
	}
	names := anonymizer.Names(profile, own)
	found := anonymizer.Find(f.report, names)
	if name, ok := anonymizer.FindText(string(f.bundle), names); ok {
		found = append(found, anonymizer.Found{Field: "attack_technical.stix_bundle", Name: name})
	}
	var bad []rpc.Violation
	for _, at := range found {
		bad = append(bad, rpc.Violation{Field: at.Field, Reason: "NAME_REMAINS",
			Japanese: fmt.Sprintf("名を示さない写しに自組織の名前 %q が残っています。その箇所を書き換えるか、名を示すことに同意 (--peer-named) してください。", at.Name),
			English:  fmt.Sprintf("The copy that must not name you still holds your name %q. Write it in other words, or consent to being named (--peer-named).", at.Name)})
	}
	return bad, nil
}
