// Package webpage is the web page of the server: every group at /, one group at
// /groups/NAME, and /events, which tells an open page what changed.
//
// Pages are complete HTML made here; what changes of one that is open is sent as
// the same HTML again, piece by piece, so there is one template for both. Nothing
// is loaded from elsewhere, no script and no style stands in a page, and the page
// gives orders only through the REST API, with the token of whoever looks.
package webpage
