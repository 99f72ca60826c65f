package node

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// GetProfile reads what the member says of itself.
func (n *Node) GetProfile(ctx context.Context, _ *pb.GetProfileRequest) (*pb.GetProfileResponse, error) {
	p, _, err := n.store.profile(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.GetProfileResponse{Profile: p}, nil
}

// UpdateProfile keeps the profile here and sends it to the hub; when the hub
// is not reached it is sent later. What the hub refuses is not kept.
func (n *Node) UpdateProfile(ctx context.Context, req *pb.UpdateProfileRequest) (*pb.UpdateProfileResponse, error) {
	p := req.GetProfile()
	if err := checkProfile(p); err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	_, err := n.hub.SetProfile(call, &pb.SetProfileRequest{Profile: p})
	if err != nil {
		if refusal, ok := final(err); ok {
			return nil, refusal
		}
	}
	if err := n.store.setProfile(ctx, p, err != nil); err != nil {
		return nil, err
	}
	return &pb.UpdateProfileResponse{Recorded: err == nil}, nil
}

// checkProfile finds here what the hub would refuse later.
func checkProfile(p *pb.Profile) error {
	for _, d := range p.GetDesks() {
		if len(d.GetContacts()) < 2 {
			return rpc.Refuse(codes.InvalidArgument, "CONTACTS_TOO_FEW", "desks.contacts",
				"窓口は2名以上を登録してください: --contact \"氏名,電話,メール\" を2回指定します。",
				"Give two contacts or more: --contact \"NAME,PHONE,MAIL\" twice.")
		}
	}
	for i, person := range p.GetPersons() {
		if !ca.ValidID(person.GetId()) || person.GetName() == "" ||
			slices.IndexFunc(p.GetPersons(), func(q *pb.Person) bool { return q.GetId() == person.GetId() }) != i {
			return rpc.Refuse(codes.InvalidArgument, "PERSON_INVALID", "persons",
				"担当者には重複しない ID (a-z, 0-9, ハイフン) と氏名が必要です。",
				"A person needs an id of its own (a-z, 0-9, hyphen) and a name.")
		}
	}
	return nil
}

// sendProfile sends a profile that the hub does not have yet.
func (n *Node) sendProfile(ctx context.Context) error {
	p, pending, err := n.store.profile(ctx)
	if err != nil || !pending {
		return err
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	if _, err := n.hub.SetProfile(call, &pb.SetProfileRequest{Profile: p}); err != nil {
		return err
	}
	return n.store.markProfileSent(ctx, p)
}

// fetchDirectory keeps a copy of the port's directory.
func (n *Node) fetchDirectory(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	var members []*pb.Member
	req := &pb.ListMembersRequest{}
	for {
		resp, err := n.hub.ListMembers(call, req)
		if err != nil {
			return err
		}
		members = append(members, resp.GetMembers()...)
		if resp.GetNextPageToken() == "" {
			return n.keepDirectory(ctx, members, resp.GetRevision())
		}
		req.PageToken = resp.GetNextPageToken()
	}
}

// keepDirectory stores the directory, and takes over the own profile when this
// node has none, e.g. a member's second node.
func (n *Node) keepDirectory(ctx context.Context, members []*pb.Member, revision uint64) error {
	if err := n.replaceDirectory(ctx, members, revision); err != nil {
		return err
	}
	own, _, err := n.store.profile(ctx)
	if err != nil || proto.Size(own) > 0 {
		return err
	}
	for _, m := range members {
		if m.GetId() == n.id.member && m.GetProfile() != nil {
			return n.store.setProfile(ctx, m.GetProfile(), false)
		}
	}
	return nil
}

// replaceDirectory stores the directory together with what its keys mean: in
// between nobody seals to a key that has not been looked at. The keys come
// first: after a crash in between the directory is older than the next decision
// and fetched again.
func (n *Node) replaceDirectory(ctx context.Context, members []*pb.Member, revision uint64) error {
	n.pinned.Lock()
	defer n.pinned.Unlock()
	if err := n.watchKeys(ctx, members); err != nil {
		return err
	}
	if err := n.store.setDirectory(ctx, members, revision); err != nil {
		return err
	}
	n.learnSigners(members)
	return nil
}

// learnSigners notes who signs with which key.
func (n *Node) learnSigners(members []*pb.Member) {
	signers := make(map[string][][]byte, len(members))
	for _, m := range members {
		for _, node := range m.GetNodes() {
			signers[m.GetId()] = append(signers[m.GetId()], node.GetSigningKey())
		}
	}
	n.signers.Store(&signers)
}

// ListPeers reads the directory: from the hub when it answers, else as it was
// seen last.
func (n *Node) ListPeers(ctx context.Context, req *pb.ListPeersRequest) (*pb.ListPeersResponse, error) {
	if err := n.fetchDirectory(ctx); err != nil {
		n.log.InfoContext(ctx, "directory not refreshed", "err", err)
	}
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return nil, err
	}
	size := pageSize(int(req.GetPageSize()))
	if req.GetPageSize() == 0 {
		size = maxPage
	}
	resp := &pb.ListPeersResponse{}
	for _, m := range members {
		if strings.Compare(m.GetId(), req.GetPageToken()) <= 0 {
			continue
		}
		if len(resp.Members) == size {
			resp.NextPageToken = resp.Members[size-1].GetId()
			break
		}
		// A key that its owner has not signed is not shown to anybody.
		m.Keys = slices.DeleteFunc(m.Keys, func(k *pb.SignedKey) bool {
			_, err := entryIn(m, k, signerOf(m, k.GetEntry().GetNode()))
			return err != nil
		})
		resp.Members = append(resp.Members, m)
	}
	return resp, nil
}
