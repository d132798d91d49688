# Every program, the modules that it is made of, the libraries that it links, and how it is linked.

SK := -lskarnet
HOME_CONTROL := $L/home control/control
# what submits messages
SUBMIT := queue/client queue/protocol $L/channel

# --- inject ------------------------------------------------------------------

# --- queue -------------------------------------------------------------------
$(eval $(call program,qmail-queue,$S/queue/qmail-queue $L/home queue/envelope $(SUBMIT),$(SK),$(STATIC)))

# --- send --------------------------------------------------------------------

# --- local -------------------------------------------------------------------

# --- remote ------------------------------------------------------------------

# --- users -------------------------------------------------------------------

# --- admin -------------------------------------------------------------------
$(eval $(call script,config-fast,$S/admin/config-fast.sh))
$(eval $(call script,qmail-setup,$S/admin/qmail-setup.sh))

