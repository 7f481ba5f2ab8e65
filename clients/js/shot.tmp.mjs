import { Mesh, Pages } from "./test/lib/pages.mjs";
import { key } from "./test/lib/server.mjs";
import { Sparkmesh } from "./dist/index.js";
import WebSocket from "ws";
const mesh=await Mesh.start(5); const pages=await Pages.start(); mesh.hosts.forEach(h=>pages.hosts.add(h));
const all=[];
for (let n=0;n<64;n++){ const c=new Sparkmesh({url:mesh.servers[n%5].url,key:key(`phone-${n}`),WebSocket}); c.on("message",()=>{}); c.on("fault",()=>{}); await c.connect(); all.push(c);}
let t=0, stop=false; const loop=setInterval(()=>{ t++; const k=3+Math.round(6+5*Math.sin(t/240)); for(let i=0;i<k;i++){ const a=Math.floor(Math.random()*64); all[a].send({dest_id:`phone-${Math.floor(Math.random()*72)}`,payload:"x",ttl_ms:600000}).catch(()=>{}); } },100);
const page=await pages.open(`${mesh.servers[0].url}/console#key=${mesh.admin}`,{viewport:{width:1280,height:760},colorScheme:"light"});
await new Promise(r=>setTimeout(r, Number(process.env.WAIT)*1000));
await page.getByRole("button",{name:/^Server s2/}).click();
await mesh.servers[3].kill(); 
await page.waitForTimeout(9000);
await page.screenshot({path:"/tmp/wt/console-shots/readme-light.png"});
await page.emulateMedia({colorScheme:"dark"}); await page.waitForTimeout(1500);
await page.screenshot({path:"/tmp/wt/console-shots/readme-dark.png"});
clearInterval(loop); await Promise.all(all.map(c=>c.close().catch(()=>{}))); console.log(pages.faults); await pages.stop(); await mesh.stop(); process.exit(0);
