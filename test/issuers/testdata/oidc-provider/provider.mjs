// A real oidc-provider for the tests. Each login succeeds as the account of
// login_hint, and the user consents to everything.
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

const { ISSUER_PORT, CLIENT, CLIENT_SECRET, LOGOUT_URL } = process.env
const redirect = 'http://127.0.0.1/callback'

const provider = new Provider(`http://127.0.0.1:${ISSUER_PORT}`, {
  clients: [{
    client_id: CLIENT, client_secret: CLIENT_SECRET, redirect_uris: [redirect], response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    backchannel_logout_uri: LOGOUT_URL, backchannel_logout_session_required: true,
  }],
  pkce: { required: () => false },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const grant = new provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId })
    grant.addOIDCScope('openid')
    grant.addResourceScope('urn:api', 'read')
    await grant.save()
    return grant
  },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:api',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ audience: 'api', scope: 'read', accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } }),
    },
  },
  // The library refuses to call loopback addresses through its own dispatcher.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
})

const handle = provider.callback()
createServer(async (req, res) => {
  if (!req.url.startsWith('/interaction/')) return handle(req, res)
  const { params } = await provider.interactionDetails(req, res)
  return provider.interactionFinished(req, res, { login: { accountId: params.login_hint } })
}).listen(Number(ISSUER_PORT), '127.0.0.1')
